"""HTTP and gRPC for clients, in front of an engine whose waiting images it batches."""
