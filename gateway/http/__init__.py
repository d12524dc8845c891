"""HTTP/1.1: sockets, TLS, API keys, parsing requests and sending answers."""
