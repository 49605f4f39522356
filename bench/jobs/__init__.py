"""What one command does: train a run, make its teachers, evaluate it, say what there is."""
