"""Parts of large TIFF files are what Pillow or tifffile read of the whole."""

import pickle
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
import torch
from PIL import Image

from rcnnkit import looking, slides
from rcnnkit.data.checks import picture_size
from rcnnkit.data.loading import Pictures, load_batch
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.transforms import Augmentation, AugmentSettings
from rcnnkit.detecting import detect_files
from rcnnkit.evaluation.report import look
from rcnnkit.images import Preprocessing, read_picture
from rcnnkit.slides import Slide, open_slide
from rcnnkit.structures import Proposals, Targets
from tests.test_looking import Dots, scene

PARTS = [(0, 0, 1, 1), (0, 0, 310, 230), (10, 20, 100, 90), (300, 220, 310, 230), (15, 0, 16, 230), (47, 31, 160, 200)]


def write(path: Path, picture: np.ndarray, **options: Any) -> Path:
    tifffile = pytest.importorskip("tifffile")
    if options.get("compression"):
        pytest.importorskip("imagecodecs")
    photometric = "minisblack" if picture.ndim == 2 else "rgb"
    tifffile.imwrite(path, picture, **{"photometric": photometric} | options)
    return path


def noise(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (32, 48)},
        {"tile": (16, 16), "bigtiff": True, "compression": "zlib"},
        {"rowsperstrip": 7},
        {"rowsperstrip": 1000, "compression": "lzw", "predictor": True},
        {"byteorder": ">", "tile": (64, 64)},
    ],
)
@pytest.mark.parametrize("kind", ["rgb", "rgba", "grey", "grey of 16 bits"])
def test_parts_are_those_of_the_whole(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    shape = {"rgb": (230, 310, 3), "rgba": (230, 310, 4)}.get(kind, (230, 310))
    picture = noise(shape, np.uint16 if "16" in kind else np.uint8)
    file = write(
        tmp_path / "a.tif", picture, **options, **({"extrasamples": ["unassalpha"]} if "a" in kind[3:] else {})
    )
    whole = read_picture(file)  # by Pillow
    with Slide(file) as slide:
        assert slide.size == (230, 310)
        for x1, y1, x2, y2 in PARTS:
            np.testing.assert_array_equal(slide.cut((x1, y1, x2, y2)), whole[y1:y2, x1:x2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(slide)).cut(PARTS[2]), whole[20:90, 10:100])


def test_jpeg_inside_is_decoded_as_by_pillow(tmp_path: Path) -> None:
    picture = np.asarray(Image.fromarray(noise((20, 25, 3))).resize((310, 230), Image.Resampling.BICUBIC))
    file = write(tmp_path / "a.svs", picture, tile=(64, 64), compression="jpeg", compressionargs={"level": 90})
    whole = read_picture(file)
    slide = Slide(file)
    off = np.abs(slide.cut((0, 0, 310, 230)).astype(int) - whole)
    assert off.max() <= 3  # chroma may be upsampled otherwise
    assert off.mean() < 0.3
    slide.close()


def test_an_overview_is_made_of_averages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise((240, 320, 3))
    slide = Slide(write(tmp_path / "a.tif", picture, tile=(32, 32)))
    expected = picture.reshape(60, 4, 80, 4, 3).mean(axis=(1, 3))
    for band in (slides.BAND, 320 * 24):  # at once, and a few rows at a time
        monkeypatch.setattr(slides, "BAND", band)
        np.testing.assert_allclose(slide.overview((60, 80)), expected, atol=0.51)
    assert slide.shown_size == (240, 320)
    slide.size = (4000, 100_000)
    assert slide.shown_size == (80, 2000)
    slide.close()


def test_what_is_not_read_in_parts_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slides, "LARGE", 0)
    floats = write(tmp_path / "f.tif", np.zeros((20, 30), np.float32))
    with pytest.raises(
        ValueError, match=r"f\.tif is not read in parts: its values are float32; convert it to 8-bit RGB"
    ):
        Slide(floats)
    planes = write(tmp_path / "p.tif", np.zeros((3, 20, 30), np.uint8), planarconfig="separate")
    with pytest.raises(ValueError, match="each colour is in a plane of its own"):
        Slide(planes)
    white = write(tmp_path / "w.tif", np.zeros((20, 30), np.uint8), photometric="miniswhite")
    with pytest.raises(ValueError, match="its colours are MINISWHITE"):
        Slide(white)
    turned = tmp_path / "t.tif"
    Image.fromarray(noise((20, 30, 3))).save(turned, tiffinfo={274: 6})
    with pytest.raises(ValueError, match="it is to be turned"):
        Slide(turned)
    cut = tmp_path / "c.tif"
    cut.write_bytes(floats.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"c\.tif is no whole TIFF file"):
        Slide(cut)
    for file in (floats, planes, white, turned, cut, tmp_path / "gone.tif", tmp_path):
        assert open_slide(file) is None  # it is read as a whole, or read_picture says why not


def test_only_large_tiffs_are_slides(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", noise((20, 30, 3)))
    assert open_slide(file) is None
    png = tmp_path / "a.png"
    Image.fromarray(noise((20, 30, 3))).save(png)
    assert open_slide(png) is None


def test_a_damaged_part_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", noise((64, 64, 3)), tile=(32, 32), compression="zlib")
    with Slide(file) as slide:
        place = slide._page().dataoffsets[3]
    data = bytearray(file.read_bytes())
    data[place : place + 40] = bytes(40)
    file.write_bytes(data)
    with Slide(file) as slide:
        slide.cut((0, 0, 32, 32))
        with pytest.raises(ValueError, match=r"a\.tif cannot be decoded .*; copy it again or leave it out"):
            slide.cut((40, 40, 50, 50))


def test_a_slide_that_is_cut_short_is_found_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.tif", noise((64, 64, 3)), tile=(32, 32))
    monkeypatch.setattr(slides, "LARGE", 1000)
    monkeypatch.setattr("rcnnkit.data.checks.read_file", None)  # which reads all of it
    assert picture_size(file) == (64, 64)
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.tif ends within its pixels; copy it again"):
        Slide(file)
    assert "the picture cannot be read" in str(picture_size(file))


def test_what_is_left_out_of_a_file_is_black(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    file = tmp_path / "sparse.tif"

    def tiles() -> Any:
        yield np.full((32, 32), 9, np.uint8)
        yield from [None] * 3

    tifffile.imwrite(file, tiles(), shape=(64, 64), dtype=np.uint8, tile=(32, 32), photometric="minisblack")
    with Slide(file) as slide:
        assert slide.cut((30, 0, 34, 1))[0, :, 0].tolist() == [9, 9, 0, 0]


def test_without_tifffile_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(noise((20, 30, 3))).save(file)
    monkeypatch.setattr(slides, "find_spec", lambda name: None)
    assert open_slide(file) is None
    monkeypatch.setenv("RCNNKIT_MAX_PIXELS", "500")
    with pytest.raises(ValueError, match=r"a\.tif is too large .*: pip install 'rcnnkit\[slides\]'"):
        open_slide(file)


def test_slides_are_detected_in_evaluated_and_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never read as a whole, which would be an error here."""
    picture, boxes = scene()
    file = write(tmp_path / "scene.tif", picture, tile=(32, 32), compression="zlib")
    monkeypatch.setattr(slides, "LARGE", 1000)

    def refused(*_: object) -> Never:
        raise AssertionError("read as a whole")

    monkeypatch.setattr(looking, "read_picture", refused)
    monkeypatch.setattr("rcnnkit.detecting.sources.read_picture", refused)
    dots = Dots(tile=64, tile_overlap=20)
    assert dots(file).boxes.tolist() == boxes
    assert dots([Slide(file)])[0].boxes.tolist() == boxes
    whole = Dots(tile=64, tile_overlap=20, tile_whole=True)
    whole(file)
    assert whole.seen[-1] == ((100, 134), (50, 67))  # twice the network's pixels

    whole(file, Proposals(torch.tensor([[31.0, 23, 310, 230]]), torch.ones(1)))
    (region,) = whole.given[-1]
    torch.testing.assert_close(region.boxes, torch.tensor([[6.7, 5.0, 67, 50]]))

    (done,) = detect_files(dots, file, tmp_path / "out")
    assert done.detections is not None
    assert done.drawn is not None
    assert done.detections.boxes.tolist() == boxes
    assert Image.open(done.drawn).size == (310, 230)

    targets = Targets(torch.tensor(boxes).float(), torch.arange(25))
    data = Dataset("slides", [Record(1, file, (230, 310), targets)], [str(i) for i in range(25)], list(range(25)))
    assert look(Dots(tile=64, tile_overlap=20), _three(data)).detections[0].boxes.tolist() == boxes
    rule = Preprocessing(short_side=0, long_side=310, tile=64, tile_overlap=20)
    batch = load_batch(Pictures(data.records, Augmentation(AugmentSettings(flip=0), rule), True), [(0, 4)])
    assert batch.pictures[0].shape == (3, 64, 64)
    for box, label, crowd in zip(
        batch.targets[0].boxes.int().tolist(), batch.targets[0].labels.tolist(), batch.targets[0].crowd, strict=True
    ):
        x1, y1, x2, y2 = box
        assert (batch.pictures[0][0, y1:y2, x1:x2] == 10 * (25 - label)).all() or crowd


def _three(data: Dataset) -> Dataset:
    return Dataset(data.name, data.records, ["a", "b", "c"], [1, 2, 3])
