"""Codes of signs, and how many rows a LayerNorm takes at a time: what whoever writes programs must know."""

import numpy as np

PLUS, ZERO, MINUS = 0, 2, 3  # byte codes of signs
NOWHERE = np.float32(-np.inf)  # a floor that no value lies below
TOGETHER = 4  # rows of a LayerNorm side by side
