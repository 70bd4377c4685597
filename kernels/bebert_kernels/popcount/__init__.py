"""Products by XNOR- and AND-popcount straight from the packed words."""

__all__ = ["product", "stages"]
