"""What sees each region: its pooling, its layers, its classes and boxes."""

__all__ = [
    "adversary",
    "alignment",
    "box_head",
    "box_ridge",
    "captioner",
    "chain",
    "convs_fc",
    "region_pool",
    "spatial_dropout",
    "spatial_rotation",
    "svm",
]
