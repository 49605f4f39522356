"""Attacks, one file each; `loop.py` is the loop that the gradient attacks share.

The harness finds them through the entry-point group `bench.attacks`, as it finds a stranger's.
"""
