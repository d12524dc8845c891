"""Data sets: finding, downloading and reading them."""
