"""A detector that answers over HTTP."""

__all__ = ["application", "limits", "server"]
