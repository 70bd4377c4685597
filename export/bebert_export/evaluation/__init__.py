"""Scores of a split, early exits, reliability, plots."""

__all__ = ["early_exits", "reliability", "split_scores"]
