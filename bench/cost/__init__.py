"""What a training step costs: time, operations, memory."""
