"""What tests of several folders need: places, commands, records and networks, with their types."""
