"""Where objects might be: selective search, the region proposal network, and what they share."""

from rcnnkit.proposals.selective_search import selective_search

__all__ = ["anchors", "fit", "methods", "recall", "released", "rpn", "selective_search", "sliding_windows", "store"]
