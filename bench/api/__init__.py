"""What Python is offered beside the commands: `bench.evaluate`, `train`, `compare` and `load_records`."""
