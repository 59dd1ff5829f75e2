"""Train a small Faster R-CNN from Python: python train.py DATA [ITERATIONS]

DATA is a Pascal VOC folder with the lists train and val. `rcnnkit settings` explains every setting.
"""

import sys

import rcnnkit
from rcnnkit.config_files import check_settings

data, iterations = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
settings = {
    "model": {"backbone": "resnet18", "norm": "batch", "fpn_channels": 128, "fpn_norm": "batch"},  # from scratch
    "input": {"short_side": 320, "long_side": 533},
    "head": {"hidden": 256, "samples": 128},
    "data": {"root": data},
    "train": {"iterations": iterations, "batch": 2, "lr_for_16": 0.16, "schedule": "cosine", "warmup": 100},
}
best = rcnnkit.train(check_settings(settings, "train.py"))
detector = rcnnkit.load(best)
print(f"{best} finds {', '.join(detector.class_names)}")
