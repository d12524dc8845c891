"""TorchServe as we run it: its configuration, its start, readiness, supervision and stop."""
