"""What `rcnnkit train FOLDER` makes of three data sets in so many minutes, beside torchvision and hand-made settings.

    python tools/compare_suggested.py DATA [--minutes 5] [--sets cells digits photographs] [--json FILE]

DATA holds bccd/ and coco256/. The sets are blood cells; digits on drawings; and digits on the photographs of coco256,
without validation pictures. Each is trained on as it is (Pascal VOC) and as a YOLO copy, with the settings that are
suggested for it and for the minutes, from scratch. torchvision's Faster R-CNN gets the same network, pictures and size,
and as many seconds (see compare_torchvision.py). Hand-made settings, where there are some, get as many minutes. All are
scored on pictures that nothing was chosen on. Eleven runs of 5 minutes, with their evaluations, take about 70 minutes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measured
import numpy as np
import torch
import yaml
from compare_torchvision import alone
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from rcnnkit.config import Settings
from rcnnkit.config_files import check_settings, read_settings
from rcnnkit.data.digits import scan_indices, write_digits
from rcnnkit.data.reading import read_data
from rcnnkit.data.records import Dataset, Record
from rcnnkit.data.voc_writing import write_voc
from rcnnkit.demo import settings_for
from rcnnkit.images import read_picture
from rcnnkit.structures import Targets
from rcnnkit.training.suggest import seconds_of, suggest

CONFIG = Path(__file__).parents[1] / "configs" / "faster_rcnn_resnet18_fpn_bccd.toml"
SETS = ("cells", "digits", "photographs")


def make_photographs(coco: Path, root: Path) -> None:
    """Three to eight digits of 24 to 96 pixels on each photograph, 128 to train and 128 to test."""
    scans = load_digits().images / 16
    names = [str(digit) for digit in range(10)]
    for split, part, pictures in (("train", "train", "train2017"), ("test", "val", "val2017")):
        chosen = scan_indices(part, range(10))
        records = []
        for i, record in enumerate(read_data(coco, f"annotations/instances_{pictures}.json").records):
            rng = np.random.default_rng((i, len(split)))
            canvas = read_picture(record.path, record.size).astype(float)
            boxes: list[tuple[float, float, float, float]] = []
            labels = []
            for digit in rng.integers(0, 10, rng.integers(3, 9)).tolist():
                side = int(np.exp(rng.uniform(np.log(24), np.log(96))))
                ink = Image.fromarray((255 * scans[rng.choice(chosen[digit])]).astype(np.uint8))
                ink = ink.crop(ink.getbbox())
                height, width = side, max(6, round(side * ink.width / ink.height))
                if height >= record.size[0] or width >= record.size[1]:
                    continue
                y, x = (int(rng.integers(0, room)) for room in (record.size[0] - height, record.size[1] - width))
                if any(x < b[2] and b[0] < x + width and y < b[3] and b[1] < y + height for b in boxes):
                    continue
                opacity = np.asarray(ink.resize((width, height), Image.Resampling.BICUBIC))[..., None] / 255.0
                under = canvas[y : y + height, x : x + width]
                colour = rng.uniform(180, 255, 3) if under.mean() < 128 else rng.uniform(0, 75, 3)
                under += opacity * (colour - under)
                boxes.append((x, y, x + width, y + height))
                labels.append(digit)
            path = root / "JPEGImages" / f"{split}{i:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(path, quality=95)
            targets = Targets(torch.tensor(boxes).float().reshape(-1, 4), torch.tensor(labels, dtype=torch.int64))
            records.append(Record(path.stem, path, record.size, targets))
        write_voc(Dataset(f"photographs/{split}", records, names, list(range(1, 11))), root, split)


def make_yolo(root: Path, splits: Sequence[str], out: Path) -> None:
    """The same pictures and boxes in YOLO's layout."""
    names: list[str] = []
    for split in splits:
        data = read_data(root, split, class_names=names or None, skip_bad=True)
        names = list(data.class_names)
        for folder in ("images", "labels"):
            (out / folder / split).mkdir(parents=True)
        for record in data.records:
            shutil.copy(record.path, out / "images" / split)
            height, width = record.size
            lines = []
            for (x1, y1, x2, y2), label in zip(
                record.targets.boxes.tolist(), record.targets.labels.tolist(), strict=True
            ):
                shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
                lines.append(f"{label} " + " ".join(f"{share:.7f}" for share in shares))
            (out / "labels" / split / f"{record.path.stem}.txt").write_text("\n".join(lines))
    about = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(names))}
    (out / "data.yaml").write_text(yaml.safe_dump(about))


def in_minutes(settings: Settings, minutes: float) -> Settings:
    """The same with as many iterations as fit."""
    iterations = round(minutes * 60 / seconds_of(settings))
    return settings.model_copy(update={"train": settings.train.model_copy(update={"iterations": iterations})})


def compare(name: str, data: Path, folder: Path, minutes: float, lr: float, batch: int) -> list[dict[str, Any]]:
    """All runs of one set; `folder` is for what is made."""
    root, test, hand = data / "bccd", "test", read_settings(CONFIG, [f"data.root={data / 'bccd'}"])
    splits = ["train", "val", "test"]
    if name == "digits":
        root, test, splits = folder / name, "val", ["train", "val"]
        write_digits(root, train=512, val=128)
        shutil.rmtree(root / "annotations")
        values = settings_for("faster-rcnn", folder, "auto")
        hand = check_settings(values | {"data": {"root": str(root)}}, "the demo")
    elif name == "photographs":
        root, splits = folder / name, ["train", "test"]
        make_photographs(data / "coco256", root)
    make_yolo(root, splits, folder / f"{name}-yolo")
    rows = []
    for title, place in ((name, root), (f"{name}, YOLO", folder / f"{name}-yolo")):
        suggested = suggest(place, start="none", minutes=minutes).settings
        ours = alone("rcnnkit", suggested, test, 0.0, lr, batch)
        rows.append({"set": title, "settings": "suggested"} | ours)
        if place == root:
            seconds = ours["minutes"] * 60
            theirs = alone("torchvision", suggested, test, seconds, lr, batch)
            rows.append({"set": title, "settings": "torchvision"} | theirs)
            if name != "photographs":
                made = alone("rcnnkit", in_minutes(hand, minutes), test, 0.0, lr, batch)
                rows.append({"set": title, "settings": "hand-made"} | made)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each training")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--lr", type=float, default=0.02, help="torchvision's highest learning rate")
    parser.add_argument("--batch", type=int, default=4, help="torchvision's")
    parser.add_argument("--json", type=Path, help="write every run's numbers here")
    options = parser.parse_args()
    console, rows = Console(), []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            rows += compare(name, options.data.resolve(), Path(folder), options.minutes, options.lr, options.batch)
            if options.json:
                measured.write(options.json, [{"": f"{row['set']}: {row['settings']}"} | row for row in rows])
    table = Table(title=f"{options.minutes:g} minutes each, from scratch, {torch.get_num_threads()} threads")
    for column in ("set", "settings", "minutes", "iterations", "passes", "AP", "AP50"):
        table.add_column(column, justify="left" if column in ("set", "settings") else "right")
    for row in rows:
        numbers = [f"{row['minutes']:.1f}", str(row["iterations"]), f"{row['passes']:.1f}"]
        table.add_row(row["set"], row["settings"], *numbers, f"{row['AP']:.3f}", f"{row['AP50']:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
