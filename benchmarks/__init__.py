"""Benchmarks: this service beside others, interleaved on one machine in one run, every label checked."""
