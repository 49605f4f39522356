"""How fast the harness is beside code of others: `python -m perf`."""
