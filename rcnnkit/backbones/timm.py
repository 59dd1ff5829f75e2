"""Any network of timm (pip install rcnnkit[timm]) that gives the maps of its stages, by `features_only`."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from rcnnkit.backbones.architecture import Architecture, NetworkSettings, RegionNetwork
from rcnnkit.backbones.imagenet import Colour
from rcnnkit.backbones.two_fc import RegionSettings, TwoFC
from rcnnkit.backbones.window import Averaged
from rcnnkit.settings import closest_name

PREFIX = "timm/"
PYRAMID, SINGLE, LAST = (4, 8, 16, 32), (16,), (32,)  # strides


class TimmMaps(nn.Module):
    """Some of a timm network's maps, channels first, whatever the network's own order is.

    Args:
        name: timm's own.
        strides: of the maps to give, finest first.
        settings: whether the weights are ImageNet's, and how many stages are not trained.

    Raises:
        ValueError: the network has no maps of these strides; it lists those that it has.
    """

    def __init__(self, name: str, strides: tuple[int, ...], settings: NetworkSettings) -> None:
        super().__init__()
        # A network reduces to each stride once, or, where it keeps a resolution for two stages, the later one counts.
        levels = {info["reduction"]: number for number, info in enumerate(_feature_info(name))}
        if missing := [stride for stride in strides if stride not in levels]:
            raise ValueError(
                f"{PREFIX}{name} has no map of stride {missing[0]}; its maps have the strides"
                f" {', '.join(map(str, sorted(levels)))}"
            )
        self.net = _timm().create_model(
            name, pretrained=settings.pretrained, features_only=True, out_indices=[levels[stride] for stride in strides]
        )
        self._drop_the_rest(self.net.feature_info.info[levels[strides[-1]]]["module"])
        self.strides, self.channels = list(strides), list(self.net.feature_info.channels())
        self.frozen = self._first(settings.frozen_stages)
        for part in self.frozen:
            part.requires_grad_(False)

    def _drop_the_rest(self, end: str) -> None:
        """Some of timm's networks compute all their stages, whichever maps are asked for."""
        row, _, last = end.rpartition(".")
        stages = dict(self.net.named_modules()).get(row)
        if isinstance(stages, nn.Sequential):
            del stages[[name for name, _ in stages.named_children()].index(last) + 1 :]

    def _first(self, stages: int) -> list[nn.Module]:
        """The modules up to the end of the stage of that number, from 1 on."""
        if not stages:
            return []
        ends = [info["module"] for info in self.net.feature_info.info]
        end, parent, parts = ends[min(stages, len(ends)) - 1], self.net, []
        if hasattr(parent, flat := end.replace(".", "_")):  # as timm calls it where it takes a network apart itself
            end = flat
        for name in end.split("."):
            children = dict(parent.named_children())
            if name not in children:
                raise ValueError(f"model.frozen_stages = {stages}: timm does not say where this network's stages end")
            parts += [children[each] for each in list(children)[: list(children).index(name)]]
            parent = children[name]
        return [*parts, parent]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the maps, (B, channels, H / stride, W / stride)."""
        maps = self.net(pixels)
        pairs = zip(maps, self.channels, strict=True)
        # Swin and others give (B, H, W, C).
        return [x if x.shape[1] == channels else x.permute(0, 3, 1, 2) for x, channels in pairs]

    def train(self, mode: bool = True) -> TimmMaps:
        super().train(mode)
        for part in self.frozen:  # a frozen part does not gather batch statistics either
            part.eval()
        return self


class TimmArchitecture(Architecture):
    """A network of timm: with an FPN, or one map of stride 16 with fc6 and fc7, or whole for R-CNN.

    Raises:
        ValueError: timm has no such network, or the network gives no maps.
        ImportError: timm is not installed.
    """

    necks = ("fpn", "none")
    norms = ("none",)  # timm's own

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.timm_name = name.removeprefix(PREFIX)
        _feature_info(self.timm_name)

    def pyramid(self, settings: NetworkSettings) -> TimmMaps:
        return TimmMaps(self.timm_name, PYRAMID, settings)

    def regions(self, settings: NetworkSettings, layers: RegionSettings) -> RegionNetwork:
        body, size, hidden = TimmMaps(self.timm_name, SINGLE, settings), settings.pool_size or 7, layers.hidden or 1024
        ranks = {"fc6_rank": layers.fc6_rank, "fc7_rank": layers.fc7_rank}
        return RegionNetwork(body, TwoFC(body.channels[0], size, hidden, **ranks), hidden, size)

    def windows(self, settings: NetworkSettings, layers: RegionSettings, size: int) -> Averaged:
        return Averaged(TimmMaps(self.timm_name, LAST, settings), size)

    def normalisation(self) -> tuple[Colour, Colour]:
        config = self._pretrained()
        return tuple(config.mean), tuple(config.std)

    def origin(self) -> dict[str, str]:
        config = self._pretrained()
        return {
            "source": f"timm {self.timm_name}.{config.tag}" if config.tag else f"timm {self.timm_name}",
            "licence": config.license or "unknown",
            "url": config.url or (f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else ""),
        }

    def _pretrained(self) -> Any:
        config = _timm().get_pretrained_cfg(self.timm_name)
        if config is None or not config.has_weights:
            raise ValueError(f"timm has no weights for {self.timm_name}; start from scratch, or from train.init")
        return config


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise ImportError(f"backbones whose names begin with {PREFIX} need timm: pip install rcnnkit[timm]") from None
    return timm


@functools.cache
def _feature_info(name: str) -> list[dict[str, Any]]:
    """Stride, channels and module of each map that the network can give."""
    import torch

    timm = _timm()
    if not timm.is_model(name):
        close = closest_name(name, timm.list_models())
        raise ValueError(f"timm has no network {name}" + (f"; did you mean {close}?" if close else ""))
    try:
        with torch.device("meta"):
            info: list[dict[str, Any]] = timm.create_model(name, features_only=True).feature_info.info
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ValueError(f"timm's {name} gives no maps of its stages ({error}); choose another network") from None
    return info
