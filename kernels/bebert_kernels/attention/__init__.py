"""Attention of one sentence, on signs or on codes."""
