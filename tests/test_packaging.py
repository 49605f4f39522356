"""What is shipped: a package that setup.cfg forgets would be missing from a wheel only."""

from __future__ import annotations

from configparser import ConfigParser

import pytest

from .helpers.places import ROOT


@pytest.fixture(scope="module")
def setup() -> ConfigParser:
    """setup.cfg of the checkout."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_every_package_is_listed(setup: ConfigParser) -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("attacks", "bench", "methods")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(setup["options"]["packages"].split()) == found | {"bench.table_files", "bench.pages"}


def test_every_data_file_is_shipped(setup: ConfigParser) -> None:
    data = dict(setup["options.package_data"])
    assert (ROOT / "docs" / data.pop("bench.pages")).is_file()  # one page of several
    folders = {package: ROOT.joinpath(*package.split(".")) for package in data}
    folders["bench.table_files"] = ROOT / "tables"
    shipped = {
        path
        for package, folder in folders.items()
        for pattern in data[package].split(",")
        for path in folder.glob(pattern.strip())
    }
    present = {
        path
        for folder in (ROOT / "attacks", ROOT / "bench", ROOT / "methods", ROOT / "tables")
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert shipped == present
