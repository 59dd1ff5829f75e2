"""A network of your own under Fast and Faster R-CNN: python own_backbone.py PICTURE

A backbone turns pixels into a list of maps, and has their `strides` and `channels`.
"""

import sys

import torch
from torch import nn

import rcnnkit
from rcnnkit.backbones.two_fc import TwoFC
from rcnnkit.heads.box_head import BoxHead, HeadSettings
from rcnnkit.heads.region_pool import PoolSettings, RegionPool
from rcnnkit.images import Preprocessing
from rcnnkit.proposals.rpn import RPN, RPNSettings
from rcnnkit.structures import Targets


class MyNetwork(nn.Module):
    strides, channels = (8,), (32,)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 32, 8, stride=8), nn.BatchNorm2d(32), nn.ReLU())

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return [self.layers(pixels)]


rpn = RPN(32, MyNetwork.strides, RPNSettings(anchor_sizes=[[32, 64]], post_nms=50), exact=True)
head = BoxHead(TwoFC(32, 7, hidden=64), 64, ["cat", "dog"], [1, 2], HeadSettings(score_threshold=0.0))
pool = RegionPool(MyNetwork.strides, 7, PoolSettings())
detector = rcnnkit.FasterRCNN(MyNetwork(), rpn, pool, head, Preprocessing(short_side=160, long_side=240))
images = detector.preprocessing([sys.argv[1]], detector.device)
dog = Targets(torch.tensor([[10.0, 10, 90, 90]]), torch.tensor([1]))  # in the pixels of the resized picture
print({name: round(loss.item(), 3) for name, loss in detector.train().losses(images, [dog]).items()})
print(f"{len(detector.eval()(sys.argv[1]))} detections of an untrained network")
