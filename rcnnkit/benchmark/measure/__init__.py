"""What is measured, and how; nothing here knows how it will be shown."""

__all__ = ["contenders", "growth", "memory", "twin"]
