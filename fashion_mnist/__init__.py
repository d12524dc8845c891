"""The core: from bytes to an answer. It imports no other room of this project."""
