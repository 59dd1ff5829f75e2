"""rcnnkit: the R-CNN family in PyTorch."""
