"""What happens to one row: embeddings, quantizers, LayerNorm."""
