"""Operators under torchvision's names, arguments and defaults."""

from torchvision.ops import batched_nms, nms, roi_align, roi_pool

__all__ = ["batched_nms", "nms", "roi_align", "roi_pool"]
