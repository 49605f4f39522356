"""What all tests share."""

from __future__ import annotations

import pytest
import torch

# Tests run beside each other and beside other work; their networks are too small to gain from a second thread.
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than ten seconds (leave it out with -m 'not slow')")
