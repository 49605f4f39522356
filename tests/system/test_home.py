"""Where a home's results lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.system.home import Home


def test_a_home_has_its_results_in_a_folder_of_that_name(tmp_path: Path) -> None:
    assert Home(tmp_path).records == tmp_path / "results" / "records"


def test_a_campaign_inside_results_is_a_home_without_a_second_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = tmp_path / "results" / "mine"
    assert Home(campaign).records == campaign / "records"  # before it exists
    campaign.mkdir(parents=True)
    monkeypatch.chdir(campaign)
    assert Home(Path()).records.resolve() == campaign / "records"


def test_a_home_inside_results_that_has_its_own_stays_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "results" / "old"
    (home / "results").mkdir(parents=True)
    assert Home(home).records == home / "results" / "records"
