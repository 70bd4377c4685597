"""`bebert bench`: engines in turns, each in an environment of its own, their records and tables."""

__all__ = ["compare", "engines", "peers", "records", "run", "settings", "tables", "turns"]
