"""Adversarial pictures, and what they do to a detector."""

__all__ = ["attack", "dense", "gradient", "outcomes", "victim"]
