"""The label loop: a detector labels pictures, and says which of them a person should look at first."""

__all__ = ["choice", "label", "look", "pictures"]
