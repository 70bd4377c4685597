"""What a program and its stages agree on: slots, tables, memory, C functions."""
