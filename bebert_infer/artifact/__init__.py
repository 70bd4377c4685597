"""The model folder: what is in it, how it is checked, how it is written."""

__all__ = ["config", "folder", "tensors", "tokenizer_check"]
