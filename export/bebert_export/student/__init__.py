"""The binarized BERT that trains, and the families it comes in."""

__all__ = ["bert", "families", "layers", "schemes"]
