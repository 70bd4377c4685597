"""What a program and its stages agree on: slots, tables, stages by name, and where their code comes from."""

__all__ = [
    "branch",
    "frame",
    "instruction",
    "mailbox",
    "precompile",
    "product",
    "rule",
    "sink",
    "slot",
    "stage",
    "table",
]
