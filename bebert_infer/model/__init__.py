"""The truth: a member in plain NumPy, written to be read."""
