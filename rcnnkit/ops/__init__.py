"""Compiled operators, under torchvision's names, arguments and defaults where it has them."""

from rcnnkit.ops.check_jpeg import check_jpeg
from rcnnkit.ops.conv2d import conv2d, conv2d_weights
from rcnnkit.ops.conv3x3 import conv3x3, winograd_weights
from rcnnkit.ops.max_pool2d import max_pool2d
from rcnnkit.ops.nms import batched_nms, nms
from rcnnkit.ops.roi_align import roi_align
from rcnnkit.ops.roi_pool import roi_pool
from rcnnkit.ops.warp_regions import warp_regions

__all__ = [
    "batched_nms",
    "check_jpeg",
    "conv2d",
    "conv2d_weights",
    "conv3x3",
    "max_pool2d",
    "nms",
    "roi_align",
    "roi_pool",
    "warp_regions",
    "winograd_weights",
]
