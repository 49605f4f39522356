"""How tensors are computed: devices, seeds, processes, and faster views of networks."""
