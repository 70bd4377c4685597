"""Arithmetic on packed bits and small integer codes; knows words and shapes, nothing of BERT.

`bebert_kernels.reference` is the specification, plain NumPy; the other rooms hold the engine's kernels, equal to it bit
for bit. This file imports neither, so that reading the bit order from `bebert_kernels.packing` costs no compiler.
"""

__all__ = ["packing", "reference"]
