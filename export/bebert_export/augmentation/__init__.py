"""New examples by replacing words."""

__all__ = ["masked_lm", "options", "progress", "replacement", "word_vectors"]
