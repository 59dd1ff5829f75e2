from rcnnkit.text import count, scored


def test_counts_in_words() -> None:
    assert [count(number, "picture") for number in (0, 1, 2, 5011)] == [
        "0 pictures",
        "1 picture",
        "2 pictures",
        "5,011 pictures",
    ]
    assert [count(number, "class") for number in (1, 20)] == ["1 class", "20 classes"]


def test_a_score_stands_apart_from_a_name() -> None:
    assert scored("4", 0.78) == "4: 0.78"  # and not 40.78
    assert scored("red cell", -1.5) == "red cell: -1.50"  # an R-CNN's margin
