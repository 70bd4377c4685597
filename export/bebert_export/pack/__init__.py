"""From a trained student to a checked model folder."""

__all__ = ["write_model"]
