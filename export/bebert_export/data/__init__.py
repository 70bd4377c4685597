"""Examples, batches, tasks and metrics."""
