"""Augmentation: torchvision's semantics, image by image; chance depends on seed, epoch and index alone."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor

from bench.compute.ranks import Ranks
from bench.data.augment import Chance, EpochPlan, Extra, Policy, augment, batches, plan_epoch
from bench.data.dataset import Dataset, Split
from bench.recipes.training import Augmentation


def random_split(n: int = 50, channels: int = 3, height: int = 8, width: int = 8) -> Split:
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(256, (n, channels, height, width), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(n) % 10)


def epoch(split: Split, plan: EpochPlan, batch_size: int, start: int = 0) -> list[Tensor]:
    """Images, labels and indices of all batches together."""
    return [torch.cat(parts) for parts in zip(*batches(split, plan, batch_size, start), strict=True)]


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 8), (3, 6, 9)])
def test_equals_torchvision_image_by_image(padding: int, channels: int, height: int, width: int) -> None:
    split = random_split(64, channels, height, width)
    plan = plan_epoch(64, 3, 2, Policy(padding, True))
    got = augment(split.images, plan.chance, plan.policy)
    assert got.dtype == torch.uint8
    for i, image in enumerate(split.images):
        padded = TF.pad(image, [padding])
        expected = TF.crop(padded, int(plan.chance.top[i]), int(plan.chance.left[i]), height, width)
        assert torch.equal(got[i], TF.hflip(expected) if plan.chance.flip[i] else expected)


def test_centre_crop_without_flip_changes_nothing_and_gives_a_copy() -> None:
    images = random_split(5).images
    centre = torch.full((5,), 4)
    got = augment(images, Chance(centre, centre, torch.zeros(5, dtype=torch.bool)), Policy(4, False))
    assert torch.equal(got, images)
    assert got.data_ptr() != images.data_ptr()


def test_offsets_and_flips_are_uniform_and_independent() -> None:
    n, cells = 90_000, 9 * 9 * 2
    plan = plan_epoch(n, 0, 0, Policy(4, True))
    counts = ((plan.chance.top * 9 + plan.chance.left) * 2 + plan.chance.flip).bincount(minlength=cells).double()
    assert len(counts) == cells  # nothing beyond 2 * padding
    chi_square = ((counts - n / cells) ** 2 / (n / cells)).sum()
    assert chi_square < 161 + 4 * (2 * 161) ** 0.5  # mean and four standard deviations at 161 degrees of freedom


def test_the_order_is_a_permutation_unrelated_to_the_crops() -> None:
    plan = plan_epoch(1000, 1, 0, Policy(4, True))
    assert torch.equal(plan.order.sort().values, torch.arange(1000))
    assert not torch.equal(plan.chance.top, plan.chance.left)


def test_same_seed_and_epoch_same_plan_otherwise_another() -> None:
    def drawn(seed: int, epoch: int) -> list[Tensor]:
        plan = plan_epoch(200, seed, epoch, Policy(4, True))
        return [plan.order, plan.chance.top, plan.chance.left, plan.chance.flip]

    for again, first in zip(drawn(5, 3), drawn(5, 3), strict=True):
        assert torch.equal(again, first)
    for other in (drawn(5, 4), drawn(6, 3), drawn(3, 5)):
        assert not any(torch.equal(a, b) for a, b in zip(other, drawn(5, 3), strict=True))


def test_a_plan_is_the_same_on_every_machine() -> None:
    plan = plan_epoch(6, 0, 1, Policy(4, True))
    assert plan.order.tolist() == [3, 2, 1, 5, 4, 0]
    assert plan.chance.top.tolist() == [0, 7, 2, 2, 5, 5]
    assert plan.chance.left.tolist() == [2, 5, 3, 6, 6, 7]
    assert plan.chance.flip.int().tolist() == [1, 0, 1, 1, 1, 1]


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    plan_epoch(10, 0, 0, Policy(4, True))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_streams_do_not_depend_on_each_other_or_on_the_number_of_samples() -> None:
    plan = plan_epoch(100, 0, 0, Policy(4, True))
    without_flip = plan_epoch(100, 0, 0, Policy(4, False))
    longer = plan_epoch(120, 0, 0, Policy(4, True))
    assert not without_flip.chance.flip.any()
    assert torch.equal(without_flip.chance.top, plan.chance.top)
    assert torch.equal(without_flip.order, plan.order)
    assert torch.equal(longer.chance.left[:100], plan.chance.left)


def test_a_sample_is_augmented_alike_with_any_batch_size() -> None:
    split = random_split()
    plan = plan_epoch(50, 0, 0, Policy(2, True))
    reference = epoch(split, plan, 50)
    for batch_size in (1, 7, 50, 128):
        for got, expected in zip(epoch(split, plan, batch_size), reference, strict=True):
            assert torch.equal(got, expected)


def test_batches_follow_the_order_and_keep_the_rest() -> None:
    split = random_split()
    plan = plan_epoch(50, 0, 0, Policy(2, True))
    assert [len(labels) for _, labels, _ in batches(split, plan, 16)] == [16, 16, 16, 2]
    images, labels, indices = epoch(split, plan, 16)
    assert torch.equal(indices, plan.order)
    assert torch.equal(labels, split.labels[plan.order])
    expected = augment(split.images, plan.chance, plan.policy)  # by index, whatever the order
    assert torch.equal(images, expected[plan.order])


def test_an_epoch_continues_where_it_stopped() -> None:
    split = random_split()
    plan = plan_epoch(50, 0, 0, Policy(2, True))
    whole, rest = epoch(split, plan, 16), epoch(split, plan, 16, start=2)
    for all_of_it, second_half in zip(whole, rest, strict=True):
        assert torch.equal(all_of_it[32:], second_half)
    assert list(batches(split, plan, 16, start=4)) == []


def test_a_plan_for_another_number_of_samples_is_refused() -> None:
    plan = plan_epoch(49, 0, 0, Policy(2, True))
    with pytest.raises(ValueError, match="49"):
        next(batches(random_split(), plan, 16))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_batches() -> None:
    split = random_split()
    plan = plan_epoch(50, 0, 0, Policy(2, True))
    on_gpu = epoch(split.to("cuda"), plan, 16)
    assert on_gpu[0].is_cuda
    for got, expected in zip(on_gpu, epoch(split, plan, 16), strict=True):
        assert torch.equal(got.cpu(), expected)


def policies() -> list[Policy]:
    return [Policy(2, True), Policy(0, False), Policy(2, True, hole=4), Policy(2, False, trivial=True)]


@pytest.mark.parametrize("policy", policies(), ids=["crop-flip", "none", "cutout", "trivial-augment"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_a_batch_holds_follows_from_its_place_alone(policy: Policy, share: float) -> None:
    split, others = random_split(), random_split(33)
    extra = Extra(others, share) if share else None
    plan = plan_epoch(50, 0, 1, policy)
    whole = list(batches(split, plan, 16, extra=extra))
    again = list(batches(split, plan_epoch(50, 0, 1, policy), 16, start=2, extra=extra))  # continued
    parts = [list(batches(split, plan, 16, part=ranks.part, extra=extra)) for ranks in (Ranks(0, 2), Ranks(1, 2))]
    for one, other in zip(whole[2:], again, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
    for one, *two in zip(whole, *parts, strict=True):
        for mine, theirs in zip(one, zip(*two, strict=True), strict=True):
            assert torch.equal(mine, torch.cat(theirs))


def test_without_a_policy_the_images_are_as_they_were() -> None:
    split = random_split()
    for images, labels, indices in batches(split, plan_epoch(50, 0, 1, Policy(0, False)), 16):
        assert torch.equal(images, split.images[indices])
        assert torch.equal(labels, split.labels[indices])


def test_what_else_is_drawn_changes_no_crop() -> None:
    plain, *others = (plan_epoch(50, 0, 1, Policy(2, True, *more)) for more in ((), (True,), (False, 4), (True, 4)))
    for other in others:
        for name in ("top", "left", "flip"):
            assert torch.equal(getattr(other.chance, name), getattr(plain.chance, name))


def test_cutout_blackens_a_square_around_each_pixel_alike() -> None:
    n, side = 8000, 4
    images = torch.full((n, 1, 8, 8), 9, dtype=torch.uint8)
    plan = plan_epoch(n, 0, 1, Policy(0, False, hole=side))
    black = augment(images, plan.chance, plan.policy)[:, 0] == 0
    heights, widths = black.any(2).sum(1), black.any(1).sum(1)
    assert torch.equal(black.sum((1, 2)), heights * widths)  # rectangles, cut off by the border alone
    # The centre is uniform over the 8 rows: rows 0 and 1 leave 2 and 3 of the square inside, row 7 leaves 3.
    shares = heights.bincount(minlength=5) / n
    torch.testing.assert_close(shares, torch.tensor([0, 0, 1, 2, 5]) / 8, atol=0.02, rtol=0)
    assert torch.corrcoef(torch.stack([heights, widths]).float())[0, 1].abs() < 0.05


def test_policies_of_a_recipe_on_a_dataset() -> None:
    split = random_split()
    dataset = Dataset("mine", split, split, tuple("0123456789"), padding=1, flip=False)
    made = {
        kind: Policy.of(Augmentation(kind=kind), dataset) for kind in ("crop-flip", "none", "cutout", "trivial-augment")
    }
    assert made["crop-flip"] == Policy(1, False)
    assert made["none"] == Policy(0, False)
    assert made["cutout"] == Policy(1, False, hole=4)
    assert made["trivial-augment"] == Policy(1, False, trivial=True)
    assert Policy.of(Augmentation(kind="cutout", size=3, flip=True), dataset) == Policy(1, True, hole=3)


def test_every_batch_has_its_share_of_additional_images() -> None:
    split, extra = random_split(), Extra(random_split(33, height=8), 0.7)
    plain, plan = (
        list(batches(split, plan_epoch(50, 0, 1, Policy(0, False)), 16)),
        plan_epoch(50, 0, 1, Policy(0, False)),
    )
    mixed = list(batches(split, plan, 16, extra=extra))
    assert [len(labels) for _, labels, _ in mixed] == [len(labels) for _, labels, _ in plain] == [16, 16, 16, 2]
    assert [int((indices < 0).sum()) for _, _, indices in mixed] == [11, 11, 11, 1]
    own = torch.cat([indices[indices >= 0] for _, _, indices in mixed])
    assert torch.equal(own.sort().values, plan.order[:16].sort().values)  # 5, 5, 5 and 1: each image at most once
    for images, labels, indices in mixed:
        of_split = indices >= 0
        assert torch.equal(images[of_split], split.images[indices[of_split]])
        assert torch.equal(labels[of_split], split.labels[indices[of_split]])
        for image, label in zip(images[~of_split], labels[~of_split], strict=True):
            (place,) = (extra.split.images == image).flatten(1).all(1).nonzero()[:, 0].tolist()
            assert extra.split.labels[place] == label
    another = list(batches(split, plan_epoch(50, 0, 2, Policy(0, False)), 16, extra=extra))
    assert not torch.equal(mixed[0][0], another[0][0])
    orders = torch.stack([indices < 0 for _, _, indices in mixed[:3]])
    assert not orders[:, :11].all()  # they do not come first


def test_additional_images_are_drawn_alike() -> None:
    n = 40
    numbered = Split(torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 8, 8), torch.arange(n) % 10)
    split = random_split(5000, 1)
    drawn = [
        images[indices < 0]
        for images, _, indices in batches(
            split, plan_epoch(5000, 0, 1, Policy(0, False)), 50, extra=Extra(numbered, 0.8)
        )
    ]
    counts = torch.cat(drawn)[:, 0, 0, 0].long().bincount(minlength=n).double()
    chi_square = ((counts - 100) ** 2 / 100).sum()
    assert chi_square < 39 + 4 * (2 * 39) ** 0.5
