"""What a program and its stages agree on: slots, tables, memory, C functions."""

__all__ = [
    "branch",
    "frame",
    "instruction",
    "memory",
    "precompile",
    "product",
    "rule",
    "sink",
    "slot",
    "stage",
    "table",
]
