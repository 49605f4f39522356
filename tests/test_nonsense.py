"""Whatever a file holds: it is used, or a `BenchError` of one or two lines says what is wrong, and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from bench.data import load_dataset
from bench.errors import BenchError
from bench.evaluation.cache import Slot
from bench.jobs import status
from bench.models import build_model
from bench.models.checkpoints import SPEC_KEY, load_model
from bench.recipes import recipe
from bench.records import problems, read_all
from bench.records.files import read_record
from bench.records.record import content_digest
from bench.runs import resume
from bench.runs.folder import RunFolder, all_runs
from bench.system.home import Home
from bench.system.text import is_visible
from bench.tables import render_tables
from bench.tables.spec import read_spec, table_files

from .helpers.nonsense import ODD, changed, damaged
from .helpers.places import DEMO_RECORDS

RECORD = next(DEMO_RECORDS.glob("digits_digits-cnn_sat_*whitebox*.json"))
SPEC = table_files("specs") / "table3.yaml"
RECIPE = files("bench") / "recipes" / "demo.yaml"

bounded = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@contextmanager
def only_bench_errors() -> Iterator[None]:
    try:
        yield
    except BenchError as error:
        message = str(error)
        assert 1 <= len(message.splitlines()) <= 2, message
        assert all(is_visible(mark) or mark == "\n" for mark in message), message


def as_json(content: Any) -> bytes:
    return json.dumps(content).encode("utf-8", "surrogatepass")


VALID_RECORD = json.loads(RECORD.read_text())


def resealed(content: Any) -> bytes:
    """As JSON, and where possible with the digest of what it is now."""
    text = as_json(content)
    if not isinstance(content, dict):
        return text
    try:
        return as_json(content | {"digest": content_digest(text.decode())})
    except ValueError:  # a number of too many digits
        return text


@bounded
@given(changed(VALID_RECORD).map(resealed) | damaged(RECORD.read_bytes()))
def test_records(content: bytes) -> None:
    """Read, checked alone and beside others, and shown in tables: wherever a stranger's record comes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / RECORD.name
        path.write_bytes(content)
        with only_bench_errors():
            problems(read_all([path, RECORD]))
        with only_bench_errors():
            record = read_record(path)
            render_tables([record], [3], formats=["markdown", "latex", "csv"], out=Path(folder) / "tables")


def config() -> dict[str, Any]:
    """A run's configuration, as `bench run` writes it."""
    from bench.data.dataset import Dataset
    from bench.jobs.train import Request, resolve

    digits: Dataset = load_dataset("digits", Path("data"))
    request = Request("sat", "digits-cnn", "digits", "demo")
    content: dict[str, Any] = json.loads(resolve(request, digits, ()).model_dump_json())
    return content


SUMMARY = {
    "checkpoint": "ab" * 32,
    "selected_epoch": 1,
    "selected_on": "heldout",
    "accuracy": {"clean": 0.5, "robust": 0.5},
    "seconds": 1.0,
    "finished": "2026-01-01T00:00:00+00:00",
}
PROGRESS = {"epoch": 1, "epochs": 2, "step": 3, "steps": 4, "seconds_left": 5.0}
LOCK = {"process": 1, "host": "elsewhere", "since": "2026-01-01T00:00:00+00:00"}


@bounded
@given(st.data())
def test_run_folders(data: st.DataObject) -> None:
    whole: dict[str, Any] = {
        "config.json": config(),
        "summary.json": SUMMARY,
        "progress.json": PROGRESS,
        "lock": LOCK,
        "metrics.jsonl": {"kind": "epoch", "epoch": 1, "step": 1, "terms": {}},
    }
    name = data.draw(st.sampled_from(sorted(whole)))
    nonsense = data.draw(changed(whole[name]).map(as_json) | damaged(as_json(whole[name])))
    with TemporaryDirectory() as root:
        home = Home(Path(root))
        run = home.runs / "digits_digits-cnn_sat_demo_s0_00000000"
        run.mkdir(parents=True)
        for each, content in whole.items():
            if each != "summary.json" or name == each:
                (run / each).write_bytes(nonsense if each == name else as_json(content))
        list(all_runs(home))
        folder = RunFolder(run)
        for look in (folder.config, folder.summary, folder.progress, folder.state, folder.metrics):
            with only_bench_errors():
                look()
        with only_bench_errors():
            folder.forget_metrics_after(1, 1)
        with only_bench_errors():
            status.standings(home, [])


def dumped(content: Any) -> bytes:
    try:
        return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "replace")
    except yaml.YAMLError:
        return as_json(content)


NASTY_YAML = st.sampled_from(
    [
        *(b"", b"a: !!python/object/apply:os.system ['true']", b"a: 2026-13-45", b"? [1, 2]\n: 3", b"1: 2", b"*x"),
        *(b"[" * 3000, b"{" * 3000, b"- " * 3000, b"a: &a [*a]", b"a: 0x", b"\xff", b"? {a: b}\n: c", b"a: 1:99999e"),
        *(b"a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]", b"a: " + b"1" * 5000, b"<<: 5", b"? !!set {a}\n: b"),
    ]
)


@bounded
@given(NASTY_YAML | changed(yaml.safe_load(SPEC.read_text())).map(dumped) | damaged(SPEC.read_bytes()))
def test_table_specs(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "own.yaml"
        path.write_bytes(content)
        with only_bench_errors():
            spec = read_spec(path)
            path.write_bytes(content.replace(b"number: 3", b"number: 33"))
            record = read_record(RECORD)
            if spec.number == 3:
                out = Path(folder) / "tables"
                render_tables([record], [33], formats=["markdown", "latex", "csv"], out=out, extra_specs=Path(folder))


@bounded
@given(NASTY_YAML | changed(yaml.safe_load(RECIPE.read_text())).map(dumped) | damaged(RECIPE.read_bytes()))
def test_recipes(content: bytes) -> None:
    from bench.jobs.train import Request, resolve

    digits = load_dataset("digits", Path("data"))
    with pytest.MonkeyPatch.context() as patched, only_bench_errors():
        found = recipe.parse("own", content.decode("utf-8", "replace"))
        patched.setattr(recipe, "load", lambda name: found)
        resolve(Request("sat", "digits-cnn", "digits", "own"), digits, ())


def picture(shade: int) -> bytes:
    stream = BytesIO()
    Image.new("L", (4, 4), shade).save(stream, "PNG")
    return stream.getvalue()


@cache
def parquet(rows: int) -> bytes:
    table = pa.table(
        {
            "image": [{"bytes": picture(row), "path": None} for row in range(rows)],
            "label": [row % 2 for row in range(rows)],
        }
    )
    names = json.dumps({"info": {"features": {"label": {"names": ["a", "b"]}}}})
    stream = BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": names}), stream)
    return stream.getvalue()


@bounded
@given(damaged(parquet(4)))
def test_parquet_files(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "train-00000.parquet").write_bytes(content)
        (Path(folder) / "test-00000.parquet").write_bytes(parquet(2))
        with only_bench_errors():
            load_dataset(f"parquet:{folder}", Path(folder))


@bounded
@given(
    changed([{"bytes": picture(shade), "path": None} for shade in (1, 2)]),
    changed([0, 1]),
    changed({"info": {"features": {"label": {"names": ["a"]}}}}),
)
def test_parquet_contents(images: list[Any], labels: list[Any], metadata: Any) -> None:
    try:
        table = pa.table({"image": images, "label": labels}).replace_schema_metadata({"huggingface": as_json(metadata)})
        stream = BytesIO()
        pq.write_table(table, stream)
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, RecursionError, ValueError):
        return  # no such table can be written
    with TemporaryDirectory() as folder:
        (Path(folder) / "train-00000.parquet").write_bytes(stream.getvalue())
        (Path(folder) / "test-00000.parquet").write_bytes(parquet(2))
        with only_bench_errors():
            load_dataset(f"parquet:{folder}", Path(folder))


@cache
def weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dict(build_model("digits-cnn", 10, 1).state_dict())


def ours() -> bytes:
    metadata = {SPEC_KEY: "digits-cnn", "num_classes": "10", "in_channels": "1"}
    return save({name: value.contiguous() for name, value in weights().items()}, metadata)


def theirs(content: Any) -> bytes:
    stream = BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


ODD_TENSORS = st.sampled_from(
    [
        *(torch.zeros(()), torch.zeros(0), torch.zeros(3, dtype=torch.complex64), torch.full((16,), float("nan"))),
        *(torch.zeros(2, 2).to_sparse(), torch.zeros(4, device="meta"), torch.zeros(1).expand(10**12)),
        *(
            torch.zeros(16, dtype=torch.bool),
            torch.zeros((1,) * 20),
        ),
    ]
)


@st.composite
def odd_state_dicts(draw: st.DrawFn) -> bytes:
    state: dict[Any, Any] = dict(weights())
    for _ in range(draw(st.integers(1, 3))):
        key = draw(
            st.sampled_from(sorted(map(str, state))) | st.text(max_size=5) | st.just("block1.layer.0.conv1.weight")
        )
        state[key] = draw(ODD_TENSORS | ODD)
    for nest in draw(st.lists(st.sampled_from(["state_dict", "model", "x"]), max_size=3)):
        state = {nest: state}
    if draw(st.booleans()):
        loop: dict[str, Any] = {}
        loop["state_dict"] = loop
        state = draw(st.sampled_from([state, loop]))
    try:
        return theirs(state)
    except (RuntimeError, RecursionError, UnicodeError, NotImplementedError):
        return b""


SPECS = st.sampled_from(
    ["digits-cnn", "wrn-1000000-9999", "timm:hf-hub:x/y", "timm:../../x", "x\ny", "@", "a@cifar10", ""]
)


@bounded
@given(
    damaged(ours())
    | damaged(theirs(weights()))
    | odd_state_dicts()
    | SPECS.map(lambda spec: save({}, {SPEC_KEY: spec})),
    st.sampled_from([None, "digits-cnn", "wrn-10-1"]),
    st.sampled_from(["x.safetensors", "x.pt"]),
)
def test_checkpoints(content: bytes, spec: str | None, name: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        with only_bench_errors():
            load_model(path, spec, 10, 1)


@bounded
@given(st.data())
def test_kept_files_and_states(data: st.DataObject) -> None:
    """These are passed over, with a word; only a state that nothing can replace is an error."""
    said: list[str] = []
    with TemporaryDirectory() as place:
        folder = Path(place)
        slot = Slot(folder / "kept.safetensors", {"seed": 0}, said.append)
        slot.save({"final": torch.ones(5)}, seconds=1.0)
        whole = slot.path.read_bytes() if slot.path else b""
        (folder / "kept.safetensors").write_bytes(data.draw(damaged(whole)))
        found = slot.load()
        if found is None:
            assert said
        else:
            assert torch.equal(found.tensors["final"], torch.ones(5))
        resume.save(folder, {"step": 1})
        (folder / resume.LAST).write_bytes(data.draw(damaged((folder / resume.LAST).read_bytes())))
        with only_bench_errors():
            state = resume.load(folder, said.append)
            assert state == {"step": 1}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
