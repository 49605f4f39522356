"""What training leaves behind: a folder a run."""
