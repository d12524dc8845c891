"""Asking a server for predictions, from Python."""
