"""The served versions of the model, each with its engine, queue, batches and health."""
