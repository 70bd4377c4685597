"""The interpreter of a program and the stages that it calls."""
