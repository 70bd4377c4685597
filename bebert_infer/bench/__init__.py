"""`bebert bench`: engines in turns, each in a process of its own, their records and tables."""

__all__ = ["compare", "engines", "peers", "records", "run", "settings", "tables", "turns"]
