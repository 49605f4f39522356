"""Files, locks, signals, the console and texts: what any program needs that runs for days."""
