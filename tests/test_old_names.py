"""Settings that were renamed go by their old names, too."""

from pathlib import Path
from typing import Any

import pytest

from rcnnkit.config_files import check_settings, read_settings, write_settings
from tests.settings_files import complaint


def test_a_kind_goes_by_its_old_name_too(tiny: dict[str, dict[str, Any]]) -> None:
    old = tiny | {"model": tiny["model"] | {"detector": "fast_rcnn"}}
    assert check_settings(old, "a.toml").model.kind == "fast_rcnn"
    with pytest.raises(ValueError, match=r"a\.toml: .*kind and detector, its old name, are both given; keep kind"):
        check_settings(old | {"model": old["model"] | {"kind": "rcnn"}}, "a.toml")


def test_learning_rates_go_by_their_old_names_too(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text('[data]\nroot = "here"\n[train]\nlr = 0.5\n[alternating]\nrpn_lr = 0.25\nhead_lr = 0.125\n')
    read = read_settings(file)
    assert read.train.lr_for_16 == 0.5
    assert (read.alternating.rpn_lr_for_16, read.alternating.head_lr_for_16) == (0.25, 0.125)
    write_settings(read, tmp_path / "new.toml")
    assert "\nlr_for_16 = 0.5\n" in (tmp_path / "new.toml").read_text()
    assert read_settings(tmp_path / "new.toml") == read
    for name in ("lr", "lr_for_16"):  # one setting, whatever each of them calls it
        for path in (file, tmp_path / "new.toml"):
            assert read_settings(path, [f"train.{name}=0.125"]).train.lr_for_16 == 0.125
    assert read_settings(file, ["train.lr=0.1", "train.lr_for_16=0.2"]).train.lr_for_16 == 0.2
    assert complaint(file, "train.lr=fast").startswith("the command line: train.lr_for_16 = 'fast': ")
    file.write_text('[data]\nroot = "here"\n[train]\nlr = 0.5\nlr_for_16 = 0.5\n')
    assert complaint(file) == (f"{file}: train.lr_for_16 and lr, its old name, are both given; keep lr_for_16")


def test_a_section_and_its_settings_go_by_their_old_names_too(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    old = '[data]\nroot = "d"\n[features]\nfolder = "kept"\n[rpn]\nanchors = "detectron2"\n[rcnn]\nscores = "softmax"\n'
    file.write_text(old)
    read = read_settings(file)
    assert read.feature_store.folder == tmp_path / "kept"  # relative to the file, as by the new name
    assert (read.rpn.anchor_layout, read.rcnn.scorer) == ("detectron2", "softmax")
    write_settings(read, tmp_path / "new.toml")
    assert read_settings(tmp_path / "new.toml") == read
    for section in ("features", "feature_store"):
        for path in (file, tmp_path / "new.toml"):
            assert read_settings(path, [f"{section}.disk_gb=3"]).feature_store.disk_gb == 3
    assert complaint(file, "features.disk_gb=-3").startswith("the command line: feature_store.disk_gb = -3: ")
    assert check_settings({"data": {"root": "d"}, "features": {"disk_gb": 3}}, "a.toml").feature_store.disk_gb == 3
    file.write_text(f"{old}[feature_store]\ndisk_gb = 3\n")
    assert complaint(file) == f"{file}: feature_store and features, its old name, are both given; keep feature_store"
