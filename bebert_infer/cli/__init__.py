"""The command `bebert`: one file a command, `main` puts them together."""

__all__ = ["main"]
