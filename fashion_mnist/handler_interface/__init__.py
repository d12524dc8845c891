"""The interface between the TorchServe handler and the gateway: pixels in shared memory, and names of metrics."""
