"""Names that are one text, written in two ways."""

import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from rcnnkit.data.file_names import StoredNames, composed, is_there

Form = Literal["NFC", "NFD"]


def test_composed() -> None:
    assert composed("cafe\u0301") == "caf\u00e9" == composed("caf\u00e9")
    assert composed("plain") == "plain"


@pytest.mark.parametrize(("stored", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_however_it_is_composed(tmp_path: Path, stored: Form, asked: Form) -> None:
    there = tmp_path / unicodedata.normalize(stored, "é") / unicodedata.normalize(stored, "ü.jpg")
    there.parent.mkdir()
    there.touch()
    names = StoredNames()
    assert names.find(tmp_path / unicodedata.normalize(asked, "é") / unicodedata.normalize(asked, "ü.jpg")) == there
    other = tmp_path / unicodedata.normalize(stored, "é") / "ö.jpg"
    assert names.find(other) == other  # it is nowhere


def test_the_exact_name_comes_first(tmp_path: Path) -> None:
    both = [tmp_path / unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    for path in both:
        path.touch()
    assert [StoredNames().find(path) for path in both] == both


@pytest.mark.parametrize("name", ["none", "x" * 300, "a\0b"])
def test_what_cannot_be_a_file_is_not_there(tmp_path: Path, name: str) -> None:
    assert not is_there(tmp_path / name)
    assert is_there(tmp_path)


@pytest.mark.parametrize(
    "text", ["/a/b.jpg", "a//b.jpg", "./a/b.jpg", "a/./b.jpg", "a/b.jpg/.", "a/b/", ".a/b..jpg", "ü/b"]
)
def test_a_path_as_text_is_what_it_is_as_a_path(text: str) -> None:
    assert StoredNames().find_text(text) == str(StoredNames().find(Path(text)))
