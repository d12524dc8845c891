"""Data sets: where they come from, and reading them."""
