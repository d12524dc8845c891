"""This service beside other model servers: each by its own documentation, and tuned."""
