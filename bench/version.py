"""The version of the harness; every run and record carries it."""

__version__ = "0.2.0"
