"""Benchmarks: this service beside others, interleaved on one machine in one run, every label checked."""

import fashion_mnist  # noqa: F401 - before torch, to say how its threads wait
