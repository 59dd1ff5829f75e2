"""What holds for every operator: compilation, export, instruction sets, and finding the libraries."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rcnnkit import ops
from rcnnkit.ops import library
from rcnnkit.ops.regions import with_torchvision
from tests.levels import on_each_level
from tests.ops.definitions import random_boxes, random_rois


def all_ops(feature, rois, boxes, scores, groups):
    aligned = ops.roi_align(feature, rois, 3, 0.1, 2, True)
    pooled = ops.roi_pool(feature, rois, 3, 0.1)
    warped = ops.warp_regions(feature, rois, 3, 1, 0.5)
    kept, kept_of_groups = ops.nms(boxes, scores, 0.5), ops.batched_nms(boxes, scores, groups, 0.5)
    return aligned + 2 * pooled + warped, kept * 2, kept_of_groups + 1


def arguments(seed=0, dtype=torch.float32, count=20):
    random = torch.Generator().manual_seed(seed)
    feature = torch.randn(2, 37, 12, 14, generator=random).to(dtype)
    boxes, scores = random_boxes(count, random), torch.rand(count, generator=random)
    return feature, random_rois(10, 2, random), boxes, scores, torch.arange(count) % 3


def test_compiles_without_a_graph_break():
    compiled = torch.compile(all_ops, fullgraph=True, backend="aot_eager", dynamic=True)
    for seed, count in ((0, 20), (1, 35)):
        given = arguments(seed, count=count)
        for mine, expected in zip(compiled(*given), all_ops(*given), strict=True):
            torch.testing.assert_close(mine, expected)


def test_compiled_gradients():
    def loss(feature, *rest):
        return all_ops(feature, *rest)[0].square().sum()

    grads = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        feature, *rest = arguments()
        function(feature.requires_grad_(), *rest).backward()
        grads.append(feature.grad)
    torch.testing.assert_close(*grads)


def test_exports():
    class Module(torch.nn.Module):
        def forward(self, *given):
            return all_ops(*given)

    given = arguments()
    exported = torch.export.export(Module(), given)
    for mine, expected in zip(exported.module()(*given), all_ops(*given), strict=True):
        torch.testing.assert_close(mine, expected)


def test_the_number_of_listed_boxes_stays_open():
    class Module(torch.nn.Module):
        def forward(self, feature, boxes):
            return ops.roi_align(feature, [boxes], 3)

    feature, boxes = torch.randn(1, 2, 8, 8), torch.tensor([[0.0, 0, 6, 6]])
    three, two = (feature, boxes.repeat(3, 1)), (feature, boxes.repeat(2, 1))
    shapes = (None, {0: torch.export.Dim("n", min=2, max=50)})
    exported = torch.export.export(Module(), three, dynamic_shapes=shapes, strict=False)
    assert exported.module()(*two).equal(Module()(*two))
    assert torch.jit.trace(Module(), three)(*two).equal(Module()(*two))


@pytest.mark.parametrize("name", ["roi_align", "roi_pool", "warp_regions"])
def test_second_gradients_are_refused_not_zero(name):
    feature = torch.randn(1, 2, 8, 8, requires_grad=True)
    found = getattr(ops, name)(feature, torch.tensor([[0.0, 0, 0, 6, 6]]), 3, 1)
    (grad,) = torch.autograd.grad(found.square().sum(), feature, create_graph=True)
    with pytest.raises(RuntimeError, match=f"second gradients through {name} are not supported"):
        torch.autograd.grad(grad.square().sum(), feature)


@pytest.mark.parametrize("name", ["roi_pool", "warp_regions"])
def test_boxes_get_no_gradient(name):
    rois = torch.tensor([[0.0, 0, 0, 6, 6]], requires_grad=True)
    getattr(ops, name)(torch.randn(1, 2, 8, 8), rois, 3, 1).sum().backward()
    assert rois.grad is None


def test_what_is_no_tensor_and_no_size():
    feature, rois = torch.zeros(1, 2, 8, 8), torch.zeros(1, 5)
    with pytest.raises(TypeError, match="boxes are a ndarray, expected tensors"):
        ops.roi_align(feature, rois.numpy(), 2)  # type: ignore[arg-type]  # an array
    with pytest.raises(TypeError, match="boxes are a ndarray, expected tensors"):
        ops.roi_pool(feature, [rois[:, 1:].numpy()], 2)  # type: ignore[list-item]  # an array
    with pytest.raises(TypeError, match="must be tensors, not ndarray"):
        ops.nms(rois[:, 1:].numpy(), torch.zeros(1), 0.5)  # type: ignore[arg-type]  # an array
    with pytest.raises(ValueError, match=r"output_size is \(7, 7, 7\); give \(rows, columns\)"):
        ops.roi_align(feature, rois, (7, 7, 7))
    with pytest.raises(ValueError, match="sampling_ratio is 4294967296; it must be 65536 or less"):
        ops.roi_align(feature, rois, 7, 1.0, 2**32)
    assert ops.roi_align(feature, rois, np.int64(3)).shape == (1, 2, 3, 3)  # type: ignore[arg-type]  # numpy's integers work


PROGRAM = """
import torch
from rcnnkit import ops
from tests.ops.test_library import all_ops, arguments
results = []
for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
    feature, *rest = arguments(3, dtype)
    values, *kept = all_ops(feature.requires_grad_(), *rest)
    values.float().square().sum().backward()
    results += [values.detach(), feature.grad, *kept]
torch.save(results, f"FOLDER/{level}")
"""


def run(program, *given, level=""):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, given)],
        env={**os.environ, "RCNNKIT_CPU_LEVEL": level},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


def test_every_instruction_set_gives_the_same(tmp_path):
    levels = on_each_level(PROGRAM.replace("FOLDER", str(tmp_path)))
    found = {level: torch.load(tmp_path / level, weights_only=True) for level in levels}
    if len(found) == 1:
        pytest.skip("this machine runs the baseline only")
    for level in found:
        for mine, expected in zip(found[level], found["baseline"], strict=True):
            # fused multiplication and addition round once where the baseline rounds twice
            step = torch.finfo(mine.dtype).eps if mine.is_floating_point() else 0
            torch.testing.assert_close(mine, expected, rtol=4 * step, atol=40 * step)


def test_an_unknown_instruction_set_is_named():
    done = run(
        "import torch; from rcnnkit import ops; ops.roi_pool(torch.ones(1, 1, 2, 2), torch.ones(0, 5), 1)", level="sse9"
    )
    assert done.returncode
    assert "RCNNKIT_CPU_LEVEL=sse9 does not run here; choose one of: baseline" in done.stderr


def test_a_missing_library_names_the_command(monkeypatch):
    monkeypatch.setattr(library, "find", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install -e \."):
        library.load()


def test_a_broken_library_names_the_command(monkeypatch, tmp_path):
    broken = tmp_path / "librcnnkit_ops.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(library, "find", lambda name: broken)
    with pytest.raises(ImportError, match="do not load beside torch"):
        library.load()


def test_cuda_tensors_without_cuda_operators_warn_once():
    library.miss_cuda.cache_clear()
    try:
        with pytest.warns(UserWarning, match="without its CUDA operators.*torchvision's serve CUDA tensors"):
            library.miss_cuda()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            library.miss_cuda()
    finally:
        library.miss_cuda.cache_clear()


def test_a_cuda_library_that_does_not_load_is_left_out(monkeypatch, tmp_path):
    """As beside a torch of another CUDA; the CPU operators do without."""
    broken = tmp_path / "librcnnkit_ops_cuda.so"
    broken.write_bytes(b"not a library")
    found = library.find
    monkeypatch.setattr(library, "find", lambda name: broken if name == broken.name else found(name))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.warns(UserWarning, match="CUDA operators do not load: .*librcnnkit_ops_cuda.so"):
        library.load()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["roi_align", "roi_pool"])
def test_torchvisions_in_place_of_ours_give_ours(name, dtype):
    """Regions beside half-precision maps keep their precision, and no type is unknown."""
    random = torch.Generator().manual_seed(0)
    feature = torch.randn(2, 3, 60, 90, generator=random).to(dtype).requires_grad_()
    rois = random_rois(30, 2, random, side=900.0)
    arguments = {"roi_align": ((7, 7), 0.1, 2, False), "roi_pool": ((7, 7), 0.1)}[name]
    mine, theirs = getattr(ops, name)(feature, rois, *arguments), with_torchvision(name, feature, rois, *arguments)
    assert theirs.dtype == dtype
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    torch.testing.assert_close(theirs, mine, atol=tolerance, rtol=tolerance)
    gradients = [torch.autograd.grad(each.sum(), feature)[0] for each in (mine, theirs)]
    torch.testing.assert_close(*gradients, atol=tolerance, rtol=max(tolerance, 2e-3))


def test_the_cuda_library_is_there_where_it_must_be():
    """In CI there is a compiler for it and no GPU: it has to load all the same."""
    if library.find("librcnnkit_ops_cuda.so") is None:
        if os.environ.get("CI"):
            pytest.fail("CI must build the CUDA operators")
        pytest.skip("rcnnkit was built without its CUDA operators")
    if not torch.version.cuda:
        pytest.skip("this torch is built without CUDA")
    regions = ("roi_align", "roi_pool", "warp_regions")
    for op in ("nms", "batched_nms", *regions, *(f"{name}_backward" for name in regions)):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rcnnkit::{op}", "CUDA")


def test_importing_the_operators_loads_little():
    done = run("import sys, json; import rcnnkit.ops; print(json.dumps(sorted(sys.modules)))")
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"cv2", "albumentations", "pydantic", "sklearn", "pycocotools", "typer"}
