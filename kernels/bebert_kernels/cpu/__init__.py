"""What the operating system says of this CPU, and the levels of instruction sets that kernels are compiled for."""

__all__ = ["isa"]
