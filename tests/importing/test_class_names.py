"""Singular and plural."""

import pytest

from rcnnkit.importing.class_names import names_needed, other_number


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (names_needed("a.pth", 1), "a.pth has 1 class and does not say which; give its name with --classes"),
        (names_needed("a.pth", 3), "a.pth has 3 classes and does not say which; give their names with --classes"),
        (other_number("a.pth", 1, 2), "a.pth knows 1 class, 2 names were given"),
        (other_number("a.pth", 3, 1), "a.pth knows 3 classes, 1 name was given"),
    ],
)
def test_one_and_several(error: ValueError, text: str) -> None:
    assert str(error) == text
