"""Defenses, one file each; what several share stands beside them (`losses`, `adversarial`, `balance`).

The harness finds them through the entry-point group `bench.methods`, as it finds a stranger's.
"""
