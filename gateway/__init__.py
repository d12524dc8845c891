"""The HTTP and gRPC servers for clients, in front of an engine for which they batch images."""
