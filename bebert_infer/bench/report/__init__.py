"""The page that `bebert bench --report` writes."""

__all__ = ["page"]
