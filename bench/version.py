"""The version of the harness; every run and record carries it."""

__version__ = "0.1.0"
