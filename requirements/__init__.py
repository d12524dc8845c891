"""Pins of packages, and environments made of them."""
