"""Train binary BERT ensembles, import published checkpoints, and export both as packed bits (needs torch)."""
