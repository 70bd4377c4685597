"""How vector code is emitted."""

__all__ = ["emitter", "scale", "vectors"]
