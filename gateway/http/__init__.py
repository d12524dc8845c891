"""HTTP/1.1: sockets, TLS, keys, and from bytes to requests and back."""
