"""The page, and what it asks of the gateway."""
