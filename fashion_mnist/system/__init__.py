"""What the rooms need of the operating system: files, checksums, addresses, lines of output."""
