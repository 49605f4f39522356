"""Stage 2: a network is attacked, and what came of it becomes a record."""
