"""How fast detectors are, beside torchvision's and beside what the machine can multiply.

    python tools/benchmark_detectors.py inference [--picture FILE] [--batch N] [--threads N …]
    python tools/benchmark_detectors.py training CONFIG [section.key=value …]
    python tools/benchmark_detectors.py windows [--backbone resnet18] [--regions 2000]

`inference` on a CPU also runs ONNX Runtime and OpenVINO on one picture, as far as they are installed:

    pip install onnx onnxruntime openvino

On a GPU every contender says in what it multiplies; float32 is not TF32 there. `--compiled` has torch compile
torchvision's networks, which takes a minute. `--batch 8` gives all 8 pictures at once, and ours one at a time too.

What is compared runs in turns, so that a machine that drifts favours none; medians, and the range in brackets.
FLOP/s are those of convolutions and matrix products as they are written down, two for a product and its sum, whatever
a cleverer algorithm saves; `matmul` is what the machine reaches on 2048 × 2048 matrices in the same run.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import measured
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import FasterRCNN as TorchvisionFasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from rcnnkit.config import Settings
from rcnnkit.config_files import read_settings
from rcnnkit.data.loading import Batch, Pictures, draws, load_batches
from rcnnkit.data.transforms import Augmentation
from rcnnkit.detectors.detector import Detector
from rcnnkit.detectors.kinds import build
from rcnnkit.detectors.rcnn import RCNN
from rcnnkit.detectors.settings import DetectorSettings
from rcnnkit.images import read_picture
from rcnnkit.importing.torchvision_detectors import from_torchvision
from rcnnkit.inference import prepare
from rcnnkit.precision import autocast
from rcnnkit.text import count
from rcnnkit.training.detection import Detection, read_splits
from rcnnkit.training.loop import step
from rcnnkit.training.run import Run
from rcnnkit.training.start import start
from rcnnkit.weights import pick_device

Seconds = dict[str, list[float]]
VERSIONS = ("torch", "torchvision", "onnxruntime", "openvino")


def in_turns(calls: Mapping[str, Callable[[], Any]], turns: int, device: torch.device) -> Seconds:
    """The seconds of each call, `turns` times, the order turned by one each time; one call before that is not timed."""
    names = list(calls)
    seconds: Seconds = {name: [] for name in names}
    for turn in range(-1, turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            calls[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def matmul(dtype: torch.dtype, device: torch.device) -> Callable[[], Any]:
    a, b = torch.rand(2, 2048, 2048, device=device).to(dtype)
    return lambda: a @ b


def row(name: str, times: list[float], first: list[float], work: float | None) -> dict[str, Any]:
    """What is said of one contender."""
    median = statistics.median(times)
    values: dict[str, Any] = {"": name, "s": median, "range": [min(times), max(times)]}
    if not name.startswith("matmul"):
        values["ratio"] = statistics.median(a / b for a, b in zip(first, times, strict=True))
    return values if work is None else values | {"TFLOP/s": work / median / 1e12}


def beside_the_fastest(name: str, seconds: Seconds) -> dict[str, float]:
    """How many times as fast ours is as the fastest of the others that multiplies in the same type."""
    ours, _, dtype = name.partition(", ")
    others = [key for key in seconds if key.endswith(f", {dtype}") and not key.startswith(("rcnnkit", "matmul"))]
    if ours != "rcnnkit" or not others:
        return {}
    fastest = min((seconds[key] for key in others), key=statistics.median)
    return {"over_fastest": statistics.median(a / b for a, b in zip(fastest, seconds[name], strict=True))}


def report(title: str, seconds: Seconds, first: str, work: Mapping[str, float], options: argparse.Namespace) -> None:
    """A row for each: its time, how many times as fast as `first` it is, and the FLOP/s of its `work`."""
    table = Table(title=title, title_justify="left")
    for column in ("", "s", "range", f"{first} / this", "TFLOP/s"):
        table.add_column(column, justify="right" if column else "left")
    rows = [
        row(name, times, seconds[first], work.get(name)) | beside_the_fastest(name, seconds)
        for name, times in seconds.items()
    ]
    for each in rows:
        low, high = each["range"]
        ratio = f"{each['ratio']:.2f}" if "ratio" in each else ""
        speed = f"{each['TFLOP/s']:.3f}" if "TFLOP/s" in each else ""
        table.add_row(each[""], f"{each['s']:.3f}", f"{low:.3f} … {high:.3f}", ratio, speed)
    Console().print(table)
    if options.json:
        versions = {name: version(name) for name in VERSIONS if find_spec(name)}
        measured.write(options.json, rows, title=title, seconds=seconds, flops=dict(work), **versions)


def peers(model: nn.Module, picture: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The same network in the runtimes for ONNX files that are installed, for pictures of this one's size."""
    if not find_spec("onnx"):
        return {}
    calls: dict[str, Callable[[], Any]] = {}
    threads, given = torch.get_num_threads(), {"picture": picture.numpy()}
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes become constants, which is what is wanted
            torch.onnx.export(
                model, ([picture],), file, opset_version=17, dynamo=False, input_names=["picture"], verbose=False
            )
        if find_spec("onnxruntime"):
            import onnxruntime

            session_options = onnxruntime.SessionOptions()
            session_options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(file, session_options, providers=["CPUExecutionProvider"])
            calls["ONNX Runtime, float32"] = lambda: session.run(None, given)
        if find_spec("openvino"):
            import openvino

            core = openvino.Core()
            network = core.read_model(file)
            for name, precision in (("float32", "f32"), ("bf16", "bf16")):
                hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
                request = core.compile_model(
                    network, "CPU", hints | {"PERFORMANCE_HINT": "LATENCY"}
                ).create_infer_request()
                calls[f"OpenVINO, {name}"] = functools.partial(request.infer, given)
    return calls


def inference(options: argparse.Namespace) -> None:
    """Faster R-CNN, ResNet-50 with FPN, one picture resized to 800, with the same (random) weights."""
    device = pick_device(options.device)
    body = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=torchvision.ops.FrozenBatchNorm2d, trainable_layers=5
    )
    model = TorchvisionFasterRCNN(body, 91).eval()
    ours, _ = from_torchvision(model, [f"class {i}" for i in range(90)])
    model, ours = model.to(device), ours.to(device)
    if options.picture:
        picture = torch.from_numpy(read_picture(options.picture)).permute(2, 0, 1)
    else:
        picture = torch.randint(0, 256, (3, 375, 500), dtype=torch.uint8)
    pictures = [picture] * options.batch
    as_floats = [(each / 255).to(device) for each in pictures]

    with torch.inference_mode():
        work = flops(lambda: model(as_floats))
        calls: dict[str, Callable[[], Any]] = {}
        for threads in options.threads or [torch.get_num_threads()]:
            torch.set_num_threads(threads)
            contenders = {
                **torchvisions(model, as_floats, device, options.compiled),
                **(peers(model, as_floats[0]) if device.type == "cpu" and options.batch == 1 else {}),
                **rcnnkits(ours, pictures, device),
            }
            suffix = f", {count(threads, 'thread')}" if len(options.threads or []) > 1 else ""
            for name, call in contenders.items():
                calls[name + suffix] = functools.partial(with_threads, threads, call)
        every = {name: float(work) for name in calls}
        products = {"float32": matmul(torch.float32, device), "bf16": matmul(torch.bfloat16, device)}
        if device.type == "cuda":
            products["tf32"] = functools.partial(in_tf32, True, products["float32"])
        for name, product in products.items():
            calls[f"matmul, {name}"] = product if name == "tf32" else functools.partial(in_tf32, False, product)
            every[f"matmul, {name}"] = 2.0 * 2048**3
        seconds = in_turns(calls, options.turns, device)
    shown = f"{picture.shape[2]} × {picture.shape[1]} → 800" + (
        f", {options.batch} at once" if options.batch > 1 else ""
    )
    threads_shown = " and ".join(map(str, options.threads or [torch.get_num_threads()]))
    report(f"Faster R-CNN, ResNet-50 FPN, {shown}, {threads_shown} threads", seconds, next(iter(calls)), every, options)


def with_threads(threads: int, call: Callable[[], Any]) -> Any:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return call()


def in_tf32(wanted: bool, call: Callable[[], Any]) -> Any:
    """A call whose float32 products are made in TF32, or are not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted
    return call()


def torchvisions(
    model: nn.Module, pictures: list[torch.Tensor], device: torch.device, compiled: bool
) -> dict[str, Callable[[], Any]]:
    """torchvision's detector, eager and, where that is wanted, with its networks compiled."""

    def detect(network: nn.Module) -> Any:
        return network(pictures)

    def detect_in_bf16(network: nn.Module) -> Any:
        with autocast(device, torch.bfloat16):
            return network(pictures)

    calls: dict[str, Callable[[], Any]] = {}
    networks = {"torchvision": model}
    if compiled:
        networks["torchvision compiled"] = copy.deepcopy(model)
        for part in ("backbone", "rpn.head", "roi_heads.box_head"):  # what lies between asks for sizes
            networks["torchvision compiled"].get_submodule(part).compile()
    for name, network in networks.items():
        if network is model or device.type == "cpu":  # each type is compiled anew
            calls[f"{name}, float32"] = functools.partial(in_tf32, False, functools.partial(detect, network))
        if device.type == "cuda":
            calls[f"{name}, tf32"] = functools.partial(in_tf32, True, functools.partial(detect, network))
        calls[f"{name}, bf16 autocast"] = functools.partial(detect_in_bf16, network)
    return calls


def rcnnkits(detector: Detector, pictures: list[torch.Tensor], device: torch.device) -> dict[str, Callable[[], Any]]:
    """Our detector in every precision, and of several pictures one at a time too."""
    calls: dict[str, Callable[[], Any]] = {}
    for precision in ("float32", "tf32", "bf16") if device.type == "cuda" else ("float32", "bf16"):
        ready = prepare(detector, precision.replace("tf32", "float32"))

        def one_at_a_time(ready: Detector = ready) -> list[Any]:
            return [ready(picture) for picture in pictures]

        at_once = functools.partial(ready, pictures)
        calls[f"rcnnkit, {precision}"] = functools.partial(in_tf32, precision == "tf32", at_once)
        if len(pictures) > 1:
            calls[f"rcnnkit, {precision}, one at a time"] = functools.partial(
                in_tf32, precision == "tf32", one_at_a_time
            )
    return calls


def torchvision_as_configured(settings: Settings, classes: int) -> TorchvisionFasterRCNN:
    """torchvision's detector with the layers, regions and input of a config with a ResNet and an FPN."""
    model, rpn, head, shape = settings.model, settings.rpn, settings.head, settings.input
    body = resnet_fpn_backbone(
        backbone_name=model.backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    body.fpn = torchvision.ops.FeaturePyramidNetwork(
        [body.body["layer1"][0].conv1.in_channels * 2**i for i in range(4)]
        if model.backbone in ("resnet18", "resnet34")
        else [256 * 2**i for i in range(4)],
        model.fpn_channels,
        extra_blocks=body.fpn.extra_blocks,
        norm_layer=nn.BatchNorm2d if model.fpn_norm == "batch" else None,
    )
    body.out_channels = model.fpn_channels
    sizes = tuple(tuple(int(s) for s in each) for each in rpn.anchor_sizes)
    return TorchvisionFasterRCNN(
        body,
        min_size=shape.short_side,
        max_size=shape.long_side,
        rpn_anchor_generator=AnchorGenerator(sizes, (tuple(rpn.anchor_ratios),) * len(sizes)),
        rpn_pre_nms_top_n_train=rpn.train_pre_nms,
        rpn_post_nms_top_n_train=rpn.train_post_nms,
        rpn_batch_size_per_image=rpn.samples,
        box_head=TwoMLPHead(model.fpn_channels * 49, head.hidden),
        box_predictor=FastRCNNPredictor(head.hidden, classes + 1),
        box_batch_size_per_image=head.samples,
    )


def training(options: argparse.Namespace) -> None:
    """Iterations of CONFIG, ours and torchvision's model with the same layers on the same batches."""
    settings = read_settings(options.config, options.settings)
    data, _ = read_splits(settings.data)
    pictures = Pictures(data.records, Augmentation(settings.augment, settings.input), settings.data.use_difficult)
    loaded = load_batches(pictures, draws(data.records, settings.train.batch, 0), workers=0)
    batches: list[Batch] = list(islice(loaded, options.turns + 1))
    run = Run(settings, Path("no-run"))  # which nothing writes into
    device, dtype = run.device, run.dtype
    task = Detection(run, start(run, data, Detector), data, None, None)
    ours = task.model
    theirs = torchvision_as_configured(settings, len(data.class_names)).to(device).train()
    parameters = [sum(p.numel() for p in each.parameters()) for each in (ours, theirs)]
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    done = dict.fromkeys(("ours", "float32", "autocast"), 0)

    def next_batch(name: str) -> Batch:
        done[name] += 1
        return batches[done[name] - 1]

    def our_step() -> None:
        run.progress.iteration += 1
        step(task, next_batch("ours"), scaler)

    def their_step(name: str, type_: torch.dtype) -> None:
        batch = next_batch(name)
        pictures = [p.to(device).float() / 255 for p in batch.pictures]
        targets = [{"boxes": t.boxes.to(device), "labels": t.labels.to(device) + 1} for t in batch.targets]
        with autocast(device, type_):
            loss = torch.stack(list(theirs(pictures, targets).values())).sum()
        their_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 10.0)
        their_optimizer.step()

    calls = {
        "torchvision, float32": lambda: their_step("float32", torch.float32),
        f"torchvision, {str(dtype)[6:]} autocast": lambda: their_step("autocast", dtype),
        f"rcnnkit, {str(dtype)[6:]}": our_step,
    }
    seconds = in_turns(calls, options.turns, device)
    title = (
        f"One iteration of {options.config.stem}, {settings.train.batch} pictures, {torch.get_num_threads()} threads;"
        f" {parameters[0] / 1e6:.2f} M weights, torchvision's {parameters[1] / 1e6:.2f} M"
    )
    report(title, seconds, "torchvision, float32", {}, options)


def windows(options: argparse.Namespace) -> None:
    """R-CNN's regions through its backbone."""
    device = pick_device(options.device)
    model = {"kind": "rcnn", "backbone": options.backbone}
    detector = build(DetectorSettings.model_validate({"model": model}), ["thing"]).eval().to(device)
    assert isinstance(detector, RCNN)
    size, batch = detector.settings.size, detector.settings.batch
    pixels = torch.rand(batch, 3, size, size, device=device)
    with torch.inference_mode():
        work = flops(lambda: detector.backbone(pixels)) * options.regions / batch
        calls: dict[str, Callable[[], Any]] = {}
        every: dict[str, float] = {}
        for precision in ("float32", "bf16"):
            ready = prepare(detector, precision)

            def run(network: nn.Module = ready.backbone) -> None:
                for start in range(0, options.regions, batch):
                    network(pixels[: min(batch, options.regions - start)])

            calls[f"rcnnkit, {precision}"], every[f"rcnnkit, {precision}"] = run, work
        calls["as it is trained"], every["as it is trained"] = (
            lambda: [
                detector.backbone(pixels[: min(batch, options.regions - i)]) for i in range(0, options.regions, batch)
            ],
            work,
        )
        for name, dtype in (("matmul, float32", torch.float32), ("matmul, bf16", torch.bfloat16)):
            calls[name], every[name] = matmul(dtype, device), 2.0 * 2048**3
        seconds = in_turns(calls, options.turns, device)
    title = f"{options.regions} regions of {size}² through {options.backbone}, {torch.get_num_threads()} threads"
    report(title, seconds, "as it is trained", every, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--turns", type=int, default=5)
    common.add_argument("--device", default="auto")
    common.add_argument("--json", type=Path, help="write every time here")
    part = parts.add_parser("inference", parents=[common])
    part.add_argument("--picture", type=Path, help="by default noise of 500 × 375")
    part.add_argument("--batch", type=int, default=1, help="so many pictures at once")
    part.add_argument("--threads", type=int, nargs="+", help="one number, or several to compare")
    part.add_argument("--compiled", action="store_true", help="torchvision's networks compiled too")
    part = parts.add_parser("training", parents=[common])
    part.add_argument("--threads", type=int)
    part.add_argument("config", type=Path)
    part.add_argument("settings", nargs="*", metavar="section.key=value")
    part = parts.add_parser("windows", parents=[common])
    part.add_argument("--threads", type=int)
    part.add_argument("--backbone", default="resnet18")
    part.add_argument("--regions", type=int, default=2000)
    options = parser.parse_args()
    if options.part != "inference" and options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    {"inference": inference, "training": training, "windows": windows}[options.part](options)


if __name__ == "__main__":
    main()
