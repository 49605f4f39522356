"""What the numbers carry: comparisons, the order of defenses, the paper's claims and wins."""
