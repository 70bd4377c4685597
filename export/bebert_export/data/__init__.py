"""Examples, batches, tasks and metrics."""

__all__ = ["batches", "examples", "glue", "metrics", "tasks", "text_families", "vocabulary"]
