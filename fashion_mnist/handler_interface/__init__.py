"""What the TorchServe handler and those around it must agree on: pixels in shared memory, names of metrics."""
