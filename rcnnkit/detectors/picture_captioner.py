"""A sentence for the whole picture, by the captioner that describes a DenseCap's regions.

The generator of Karpathy and Fei-Fei (arXiv:1412.2306, section 3.2, "full frame") in the form of DenseCap
(arXiv:1511.07571): an LSTM in place of their RNN, which sees the picture once, before START.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcnnkit.backbones.architecture import RegionNetwork
from rcnnkit.detectors.describer import Describer
from rcnnkit.detectors.detector import Limit
from rcnnkit.heads.captioner import RegionCaptioner
from rcnnkit.heads.region_pool import RegionPool
from rcnnkit.images import Preprocessing
from rcnnkit.matching import Generators
from rcnnkit.structures import Detections, ImageBatch, LossSum, Proposals, Targets


class PictureCaptioner(Describer):
    """The whole picture is its only region: a classification network sees it, and a captioner describes it.

    It detects one box in each picture, all of it, with a score of 1 and the sentence. Its tensors are called as a
    DenseCap's, so that it starts from a classifier or a detector.

    Args:
        network: the backbone, and the layers that make one vector of a region.
        pool: features and the whole picture → one region.
        captioner: what describes it.
        preprocessing: what the network's pixels are.
        classes: the name of the only class, and its id.
    """

    kind = "captioner"
    stages = Describer.stages | {
        "backbone": ("backbone.forward",),
        "regions": ("pool.forward",),
        "phrases": ("captioner.language.say",),
    }
    count = 1

    def __init__(
        self,
        network: RegionNetwork,
        pool: RegionPool,
        captioner: RegionCaptioner,
        preprocessing: Preprocessing,
        classes: tuple[Sequence[str], Sequence[int]],
    ) -> None:
        super().__init__()
        self.backbone, self.pool, self.captioner = network.backbone, pool, captioner
        self.head = nn.ModuleDict({"layers": network.layers})
        self.preprocessing = preprocessing
        self.class_names, self.category_ids = tuple(classes[0]), tuple(classes[1])

    def limits(self, training: bool = False) -> list[Limit]:
        return []  # what is said does not depend on how many objects there are

    def see(self, images: ImageBatch) -> Tensor:
        """(B, width) float32: what the captioner sees of each picture."""
        boxes = [torch.tensor([[0.0, 0.0, width, height]], device=self.device) for height, width in images.sizes]
        regions = self.pool(self.backbone(images.pixels), [Proposals(box, box[:, 2]) for box in boxes])
        return self.captioner.join(self.head["layers"](regions), regions)

    def loss_sums(
        self, images: ImageBatch, targets: Sequence[Targets], generators: Generators = None
    ) -> dict[str, LossSum]:
        """`words`: of all sentences of each picture. Where they lie is not looked at."""
        self.check_batch(images, targets)
        longest = max(target.phrases.shape[1] for target in targets)
        phrases = [nn.functional.pad(each.phrases, (0, longest - each.phrases.shape[1])) for each in targets]
        sentences = torch.tensor([len(each) for each in targets], device=self.device)
        seen = self.see(images).repeat_interleave(sentences, dim=0)
        return {"words": self.language.loss_sum(seen, torch.cat(phrases))}

    def describe(self, images: ImageBatch) -> list[tuple[str, ...]]:
        said = self.language.say(self.see(images))
        return [(each,) * len(regions) for each, regions in zip(said, images.proposals, strict=True)]

    def detect(self, images: ImageBatch) -> list[Detections]:
        """One box, all of the picture, with its sentence."""
        found = []
        for said, (height, width) in zip(self.language.say(self.see(images)), images.original_sizes, strict=True):
            box = torch.tensor([[0.0, 0.0, width, height]], device=self.device)
            label = torch.zeros(1, dtype=torch.int64, device=self.device)
            found.append(
                Detections(box, torch.ones_like(box[:, 0]), label, self.class_names, self.category_ids, (said,))
            )
        return found
