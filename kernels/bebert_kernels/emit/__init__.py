"""How vector code is emitted."""

__all__ = ["emitter", "memory", "scale", "tables", "threads", "vectors"]
