"""Scores of a split, reliability, plots."""
