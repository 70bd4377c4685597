"""How vector code is emitted."""
