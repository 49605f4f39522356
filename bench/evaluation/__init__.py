"""Stage 2: a network is attacked, and the outcome becomes a record."""
