"""`bench sweep`: many runs and evaluations from one file, in order, on one machine or many."""
