"""From a trained student to a checked model folder."""

__all__ = ["card_metadata", "write_model"]
