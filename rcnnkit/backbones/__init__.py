"""Networks that turn pixels into maps, a file a family; `names` lists them, `backbone` says what detectors ask."""

__all__ = ["architecture", "backbone", "classifier", "fpn", "names", "two_fc", "window"]
