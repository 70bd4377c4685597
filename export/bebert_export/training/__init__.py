"""One training run of one network: loop, loss, optimizer, distillation."""

__all__ = ["allocator", "distillation", "loop", "loss", "schedule", "snapshots", "sparse_embeddings", "width_pruning"]
