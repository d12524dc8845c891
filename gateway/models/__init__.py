"""The versions of the model that are served: each with its engine, its queue, its batches and its health."""
