"""The CUDA operators on a GPU, against the CPU's: python -m pytest -m gpu."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rcnnkit import ops
from rcnnkit.ops import library
from rcnnkit.ops.nms import nms_sorted
from tests.ops.definitions import NASTY_BOXES, random_boxes, random_rois

pytestmark = pytest.mark.gpu

LAYOUTS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
REGION_OPS = {
    "roi_align": lambda x, r: ops.roi_align(x, r, 7, 0.1, 2),
    "roi_align, adaptive": lambda x, r: ops.roi_align(x, r, (3, 5), 0.1, -1, True),
    "roi_pool": lambda x, r: ops.roi_pool(x, r, 7, 0.1),
    "warp_regions": lambda x, r: ops.warp_regions(x, r, 20, 2),
}


@pytest.fixture(autouse=True)
def _built():
    if library.find("librcnnkit_ops_cuda.so") is None:
        pytest.skip("rcnnkit was built without its CUDA operators; install it again where nvcc is")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", REGION_OPS)
def test_values_and_gradients_are_the_cpus(name, layout, dtype):
    random = generator()
    feature = torch.randn(2, 37, 20, 24, generator=random).to(dtype).contiguous(memory_format=layout)
    rois = torch.cat([random_rois(40, 2, random), torch.tensor([[1.0, *box] for box in NASTY_BOXES])])
    results = []
    for device in ("cpu", "cuda"):
        leaf = feature.to(device).requires_grad_()
        found = REGION_OPS[name](leaf, rois.to(device))
        grad = torch.randn(found.shape, generator=generator(1)).to(found)
        (back,) = torch.autograd.grad(found, leaf, grad)
        assert back.is_contiguous(memory_format=layout)
        results.append((found.detach().cpu(), back.cpu()))
    step = torch.finfo(dtype).eps
    tolerance = max(4 * step, 2e-5 if dtype != torch.float64 else 1e-10)  # fused, and added in another order
    for mine, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(mine, expected, rtol=tolerance, atol=tolerance * 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["roi_align", "roi_align, adaptive"])
def test_gradients_of_boxes_are_the_cpus(name, layout, dtype):
    random = generator()
    feature = torch.randn(2, 37, 20, 24, generator=random).to(dtype).contiguous(memory_format=layout)
    rois = torch.cat([random_rois(40, 2, random), torch.tensor([[1.0, *box] for box in NASTY_BOXES])])
    results = []
    for device in ("cpu", "cuda"):
        leaf = rois.to(device).requires_grad_()
        found = REGION_OPS[name](feature.to(device), leaf)
        grad = torch.randn(found.shape, generator=generator(1)).to(found)
        grads = [torch.autograd.grad(found, leaf, grad, retain_graph=True)[0] for _ in range(2)]
        assert grads[0].equal(grads[1])
        results.append(grads[0].cpu())
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 500, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_suppression_is_the_cpus(count, dtype):
    random = generator(count)
    boxes = torch.cat([random_boxes(count, random), torch.tensor(NASTY_BOXES[:7])]).to(dtype)
    scores = (torch.rand(len(boxes), generator=random) * 50).round() / 50
    groups = torch.randint(5, (len(boxes),), generator=random)
    for threshold in (0.0, 0.3, 0.7):
        found = ops.nms(boxes.cuda(), scores.cuda(), threshold)
        assert found.cpu().equal(ops.nms(boxes, scores, threshold))
        found = ops.batched_nms(boxes.cuda(), scores.cuda(), groups.cuda(), threshold)
        assert found.cpu().equal(ops.batched_nms(boxes, scores, groups, threshold))


@pytest.mark.parametrize(("rows", "count"), [(1, 4000), (5, 1000), (700, 300), (3, 40_000)])
def test_rows_that_are_sorted_are_the_cpus(rows, count):
    random = generator(rows)
    boxes = torch.stack([random_boxes(count, random, side=500.0) for _ in range(rows)])
    counts = torch.randint(count + 1, (rows,), generator=random)
    assert nms_sorted(boxes.cuda(), counts.cuda(), 0.5).cpu().equal(nms_sorted(boxes, counts, 0.5))


def test_many_boxes():
    random = generator()
    boxes, scores = random_boxes(100_000, random, side=5000.0), torch.rand(100_000, generator=random)
    assert ops.nms(boxes.cuda(), scores.cuda(), 0.5).cpu().equal(ops.nms(boxes, scores, 0.5))


@pytest.mark.parametrize("name", REGION_OPS)
def test_a_picture_that_is_not_there_gives_zeros(name):
    feature = torch.ones(2, 3, 20, 20, device="cuda", requires_grad=True)
    rois = torch.tensor([[2.0, 0, 0, 50, 50], [-1, 0, 0, 50, 50], [float("nan"), 0, 0, 50, 50]], device="cuda")
    found = REGION_OPS[name](feature, rois)
    assert not found.any()
    found.sum().backward()
    assert feature.grad is not None
    assert not feature.grad.any()


@pytest.mark.parametrize("name", REGION_OPS)
def test_deterministic_gradients(name):
    random = generator()
    feature = torch.randn(1, 64, 30, 30, generator=random).cuda().requires_grad_()
    rois = random_rois(300, 1, random).cuda()
    found = REGION_OPS[name](feature, rois)
    grad = torch.randn(found.shape, generator=random).cuda()
    (usual,) = torch.autograd.grad(found, feature, grad, retain_graph=True)
    torch.use_deterministic_algorithms(True)
    try:
        grads = [torch.autograd.grad(found, feature, grad, retain_graph=True)[0] for _ in range(5)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(g.equal(grads[0]) for g in grads)
    torch.testing.assert_close(grads[0], usual, rtol=1e-4, atol=1e-3)


def test_any_stream():
    random = generator()
    feature, rois = torch.randn(1, 64, 50, 50, generator=random), random_rois(500, 1, random)
    boxes, scores = random_boxes(3000, random), torch.rand(3000, generator=random)
    expected = [f(feature, rois) for f in REGION_OPS.values()] + [ops.nms(boxes, scores, 0.5)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # what ran on the default stream would read these too early
        maps, regions, rivals, ranks = (t.cuda(non_blocking=True) for t in (feature, rois, boxes, scores))
        found = [f(maps, regions) for f in REGION_OPS.values()] + [ops.nms(rivals, ranks, 0.5)]
    stream.synchronize()
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.cpu(), other, rtol=1e-5, atol=1e-4)


def test_another_device_than_the_current_one():
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    random = generator()
    feature, rois = torch.randn(1, 8, 20, 20, generator=random), random_rois(20, 1, random)
    found = ops.roi_align(feature.to("cuda:1"), rois.to("cuda:1"), 3, 0.2)
    assert found.device == torch.device("cuda:1")
    torch.testing.assert_close(found.cpu(), ops.roi_align(feature, rois, 3, 0.2), rtol=1e-5, atol=1e-5)


def test_more_results_than_32_bits_count():
    if torch.cuda.mem_get_info()[0] < 16 * 2**30:
        pytest.skip("needs 16 GiB of free device memory")
    feature = torch.randn(1, 512, 4, 4, device="cuda", dtype=torch.float16)
    rois = torch.tensor([[0.0, 0, 0, 4, 4]], device="cuda").expand(180_000, 5)  # 4.5e9 results, more than 2^32
    found = ops.roi_align(feature, rois, 7, 1.0, 1)
    torch.testing.assert_close(found[-1], found[0], rtol=0, atol=0)
    torch.testing.assert_close(found[-1].cpu(), ops.roi_align(feature.cpu(), rois[:1].cpu(), 7, 1.0, 1)[0])


def test_fill_is_exact_in_float64():
    picture, far = torch.zeros(1, 2, 9, 9, dtype=torch.float64, device="cuda"), torch.tensor([[50.0, 50, 60, 60]])
    found = ops.warp_regions(picture, [far.cuda()], 4, 0, (0.1, 0.7))
    assert found[0, :, 0, 0].tolist() == [0.1, 0.7]


@pytest.mark.parametrize("name", REGION_OPS)
def test_torch_compiles_them_into_one_graph(name):
    random = generator()
    feature, rois = torch.randn(2, 8, 20, 24, generator=random).cuda(), random_rois(10, 2, random).cuda()
    compiled = torch.compile(REGION_OPS[name], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(feature, rois), REGION_OPS[name](feature, rois), rtol=0, atol=0)


def test_torch_compiles_nms_into_one_graph():
    boxes, scores = random_boxes(50, generator()).cuda(), torch.rand(50, generator=generator()).cuda()
    compiled = torch.compile(lambda b, s: ops.nms(b, s, 0.5), fullgraph=True, backend="aot_eager")
    assert compiled(boxes, scores).equal(ops.nms(boxes, scores, 0.5))


def test_a_wrong_device_is_an_error():
    with pytest.raises(ValueError, match="move one to the other"):
        ops.roi_align(torch.ones(1, 1, 4, 4, device="cuda"), torch.ones(1, 5), 2)
    with pytest.raises(ValueError, match="move one to the other"):
        ops.nms(torch.ones(3, 4, device="cuda"), torch.ones(3), 0.5)


def test_compute_sanitizer_finds_nothing():
    sanitizer = shutil.which("compute-sanitizer")
    if not sanitizer:
        pytest.skip("compute-sanitizer is not installed")
    program = (
        "from tests.ops.test_on_gpu import *\n"
        "for name in REGION_OPS: test_values_and_gradients_are_the_cpus(name, LAYOUTS[0], DTYPES[2])\n"
        "for count in (0, 65, 500): test_suppression_is_the_cpus(count, DTYPES[2])\n"
        "test_rows_that_are_sorted_are_the_cpus(5, 1000)\n"
    )
    for tool in ("memcheck", "racecheck"):
        done = subprocess.run(
            [
                sanitizer,
                "--tool",
                tool,
                "--error-exitcode",
                "9",
                "--kernel-name",
                "kns=rcnnkit",
                sys.executable,
                "-c",
                program,
            ],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
