"""Planted faults are found, and nothing else is."""

from pathlib import Path

import pytest

from rcnnkit.checking.check import Checked
from rcnnkit.data.digits import write_digits
from tests.checking.faults import Fault, Voc, check, copies

# What is wrong with the blood cells as they were published: two boxes without a width, and two pictures of one place
# in different focus, of which one is in train and the other in val.
REAL = {
    ("error", "stops-training", "BloodImage_00343.xml", "object 3"),
    ("error", "stops-training", "BloodImage_00338.xml", "object 12"),
    ("warning", "similar-in-two-splits", "BloodImage_00037.jpg", ""),
}


def complaints(checked: Checked, but: tuple[Fault, ...] = ()) -> set[tuple[str, str, str, str]]:
    """Errors and warnings that none of the faults explains."""
    return {
        (each.kind.severity, each.kind.name, Path(each.file).name, each.where)
        for each in checked.findings
        if each.kind.severity != "note" and not any(fault.explains(each) for fault in but)
    }


@pytest.mark.slow
def test_only_the_real_faults_of_the_blood_cells_are_found(bccd: Path) -> None:
    assert complaints(check(bccd)) == REAL


@pytest.mark.slow
def test_nothing_is_wrong_with_256_pictures_of_coco(coco256: Path) -> None:
    assert complaints(check(coco256)) == set()


@pytest.mark.slow
def test_faults_planted_in_real_data_are_found(bccd: Path, coco256: Path, tmp_path: Path) -> None:
    planted: list[tuple[Fault, bool]] = []
    for root, faults in copies(bccd, coco256, tmp_path):
        checked = check(root)
        planted += [(fault, fault.is_found(checked.findings)) for fault in faults]
        assert complaints(checked, tuple(faults)) <= REAL, root.name
    assert len(planted) >= 40
    assert len({fault.what for fault, _ in planted}) >= 15
    missed = [fault for fault, found in planted if not found]
    assert len(missed) <= 0.05 * len(planted), missed


def test_faults_planted_in_digits_are_found(tmp_path: Path) -> None:
    write_digits(tmp_path / "data", train=22, val=4, size=(96, 128))
    for file in (tmp_path / "data" / "annotations").iterdir():
        file.unlink()
    assert complaints(check(tmp_path / "data")) == set()
    faults = list(Voc(tmp_path / "data", seed=0).plant())
    checked = check(tmp_path / "data")
    assert [fault for fault in faults if not fault.is_found(checked.findings)] == []
    assert complaints(checked, tuple(faults)) == set()
