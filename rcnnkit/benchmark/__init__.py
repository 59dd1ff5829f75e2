"""Detectors compared on the same pictures: `run` measures, and leaves `results` to `report`."""

__all__ = ["measure", "report", "results", "run"]
