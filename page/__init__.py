"""What the browser shows: files that the gateway serves as they are. It has no Python of its own."""
