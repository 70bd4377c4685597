"""The model folder: what is in it, how it is checked, how it is written."""

__all__ = ["config", "folder", "safe_file", "tensors", "tokenizer_check", "values"]
