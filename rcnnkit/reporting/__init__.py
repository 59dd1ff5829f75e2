"""Pages that show how well a detector does, and how a training goes."""

__all__ = ["evaluation_page", "run_page", "write"]
