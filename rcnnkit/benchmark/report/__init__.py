"""What was measured, as pages, tables and plots."""

__all__ = ["write"]
