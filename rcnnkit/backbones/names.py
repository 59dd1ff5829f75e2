"""The backbones by their names. A new family is a line here, beside its file."""

from __future__ import annotations

from rcnnkit.backbones.alexnet import ALEXNET
from rcnnkit.backbones.architecture import Architecture
from rcnnkit.backbones.caffenet import CAFFENET
from rcnnkit.backbones.googlenet import GOOGLENETS
from rcnnkit.backbones.resnet import RESNETS
from rcnnkit.backbones.timm import PREFIX, TimmArchitecture
from rcnnkit.backbones.vgg import VGGS
from rcnnkit.backbones.vgg_cnn_m import VGG_CNN_M
from rcnnkit.backbones.zfnet import ZFNET
from rcnnkit.settings import closest_name

ARCHITECTURES: dict[str, Architecture] = {
    network.name: network for network in (ALEXNET, CAFFENET, ZFNET, VGG_CNN_M, *VGGS, *GOOGLENETS, *RESNETS)
}


def architecture(name: str) -> Architecture:
    """The network of that name.

    Raises:
        ValueError: there is none, or it gives no maps.
        ImportError: timm has it, and is not installed.
    """
    if name.startswith(PREFIX):
        return TimmArchitecture(name)
    if name not in ARCHITECTURES:
        close = closest_name(name, list(ARCHITECTURES), cutoff=0.5)
        hint = f"did you mean {close}? There are" if close else "there are"
        raise ValueError(f'there is no backbone "{name}"; {hint} {", ".join(ARCHITECTURES)}, and {PREFIX}NAME of timm')
    return ARCHITECTURES[name]
