"""Where things lie beside the tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "results"
DEMO = RESULTS / "demo"
"""A home: the demo's records and tables as they are committed."""
DEMO_RECORDS = DEMO / "records"

SHARED = ROOT.parent / "shared" / "data"
"""Real images and a published network; no part of the repository: tests of them skip where they are absent."""
CIFAR10_SUBSET = SHARED / "cifar10-subset"
RESNET56 = SHARED / "checkpoints" / "resnet56-cifar10.th"


def prose(page: str) -> str:
    """A page's text, wherever its lines break."""
    return " ".join((DOCS / f"{page}.md").read_text(encoding="utf-8").split())
