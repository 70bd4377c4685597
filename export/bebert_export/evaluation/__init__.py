"""Scores of a split, reliability, plots."""

__all__ = ["reliability", "split_scores"]
