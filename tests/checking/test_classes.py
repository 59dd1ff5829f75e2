import pytest
from scipy.stats import chi2_contingency

from rcnnkit.checking.classes import chance, check_classes, spellings
from rcnnkit.checking.objects import Objects
from tests.checking.sets import data_set


@pytest.mark.parametrize(
    ("one", "other", "how", "certain"),
    [
        ("Cat", "cat", "upper and lower case", True),
        ("traffic light", "traffic_light", "spaces or hyphens", True),
        ("Traffic Light", "traffic-light", "spaces or hyphens", True),
        ("cat", "cats", "an s at the end", False),
        ("glass", "glasses", "an s at the end", False),
        ("platelet", "platlet", "one letter", False),
        ("platelet", "plateelt", "one letter", False),
        ("platelet", "plateket", "one letter", False),
    ],
)
def test_one_class_in_two_spellings(one: str, other: str, how: str, certain: bool) -> None:
    assert spellings([one, other], [100, 3]) == [(1, 0, certain, how)]
    assert spellings([other, one], [3, 100]) == [(0, 1, certain, how)]


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (["RBC", "WBC"], [100, 2]),  # too short for a slip
        (["bolt M4x10", "bolt M5x10"], [100, 2]),  # digits tell them apart
        (["mouse", "house"], [100, 90]),  # as frequent as a word of its own
        (["mouse", "horse"], [100, 2]),  # two letters
        (["C", "C++"], [5, 5]),
        (["", "a"], [5, 5]),
    ],
)
def test_two_classes(names: list[str], counts: list[int]) -> None:
    assert spellings(names, counts) == []


@pytest.mark.parametrize(("found", "of"), [((10, 3), (100, 20)), ((0, 6), (128, 128)), ((5, 0), (9, 4))])
def test_chance_is_the_likelihood_ratio_test(found: tuple[int, int], of: tuple[int, int]) -> None:
    table = [[number, size - number] for number, size in zip(found, of, strict=True)]
    wanted = chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue
    assert chance(found, of) == pytest.approx(wanted, rel=1e-9)


def test_chance_of_what_is_everywhere_or_nowhere() -> None:
    assert chance((5, 9), (5, 9)) == 1
    assert chance((0, 0), (5, 9)) == 1


def test_classes_that_are_missing_or_shifted() -> None:
    box = (0, 0, 10, 10)
    training = data_set([[(box, 0)]] * 60 + [[(box, 1)]] * 4, ["cat", "dog", "bird", "cow"])
    validation = data_set([[(box, 0), (box, 2)]] * 30 + [[(box, 1)]] * 20, ["cat", "dog", "bird", "cow"])
    found = list(check_classes({"train": Objects.of(training), "val": Objects.of(validation)}))
    assert [(each.kind.name, each.where) for each in found] == [
        ("class-shift", "class 'dog'"),
        ("class-not-in-training", "class 'bird'"),
        ("class-without-objects", "class 'cow'"),
    ]
    assert found[0].message == (
        "4 pictures of 64 in train (6.2%) and 20 of 50 in val (40.0%) show it; by chance that is next to impossible"
    )
    assert found[2].message == "there is no object of it in train, 0 objects in val"
