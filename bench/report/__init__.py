"""A static site of everything a home holds: pages that open from a disk, without a network."""
