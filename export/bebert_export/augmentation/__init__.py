"""New examples by replacing words."""
