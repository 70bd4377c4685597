"""Scores of a split, early exit, reliability, plots."""

__all__ = ["early_exits", "reliability", "split_scores"]
