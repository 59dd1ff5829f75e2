"""Detectors in the formats of other runtimes, each file proven equal before it is kept."""

__all__ = ["agreement", "export", "int8", "lowered", "proof", "repository", "runtimes", "script"]
