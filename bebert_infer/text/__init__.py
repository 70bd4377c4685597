"""From text to token ids."""

__all__ = ["tokenizer", "windows"]
