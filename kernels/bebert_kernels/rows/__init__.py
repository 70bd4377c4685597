"""What happens to one row: embeddings, quantizers, LayerNorm."""

__all__ = ["embed", "layer_norm", "layout", "quantize", "ranges", "reciprocal"]
