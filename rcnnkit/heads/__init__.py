"""What sees each region: its pooling, its layers, its classes and boxes."""

__all__ = ["box_head", "box_ridge", "captioner", "convs_fc", "region_pool", "svm"]
