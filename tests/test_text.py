from rcnnkit.text import count


def test_counts_in_words() -> None:
    assert [count(number, "picture") for number in (0, 1, 2, 5011)] == [
        "0 pictures",
        "1 picture",
        "2 pictures",
        "5,011 pictures",
    ]
    assert [count(number, "class") for number in (1, 20)] == ["1 class", "20 classes"]
