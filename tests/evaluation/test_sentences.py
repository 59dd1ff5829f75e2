"""How like a sentence is to others."""

import importlib.util
import math
import shutil

import pytest

from rcnnkit.evaluation.sentences import EXACT, JAR, exact_meteor, meteor, sentence_scores

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("pycocoevalcap") is None, reason="pycocoevalcap is not installed"
)


def test_meteor_by_hand() -> None:
    """F = PR / (0.85 P + 0.15 R), and less by 0.6 (pieces / matches) ** 0.2."""
    assert exact_meteor("red seven", ["red seven"]) == 1
    two_of_three = 2 / 3 * (1 - 0.6 * (1 / 2) ** 0.2)
    assert exact_meteor("small red seven", ["large red seven"]) == pytest.approx(two_of_three)
    assert exact_meteor("large blue three", ["large red seven"]) == pytest.approx(1 / 3 * 0.4)
    # "a" is a function word: it weighs 0.25 where the others weigh 0.75.
    share = 0.25 / (0.25 + 3 * 0.75)
    assert exact_meteor("a large red seven", ["a small blue three"]) == pytest.approx(share * 0.4)
    precision, recall = 1, 0.75 / (2 * 0.75)
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert exact_meteor("seven", ["red seven"]) == pytest.approx(mean * 0.4)
    assert exact_meteor("red seven", ["blue three", "red seven", "seven"]) == 1
    assert exact_meteor("", ["red"]) == exact_meteor("red", [""]) == exact_meteor("red", []) == 0


def test_as_few_pieces_as_can_be() -> None:
    """The second "a" of the reference, which goes on to "b c", not the first."""
    one_piece = 1 - 0.6 * (1 / 3) ** 0.2
    weights = 0.25 + 2 * 0.75
    precision, recall = 1, weights / (weights + 0.25 + 0.75)
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert exact_meteor("a b c", ["a x a b c"]) == pytest.approx(mean * one_piece)


def test_swapped_words_still_score() -> None:
    """So whole phrases are counted, too."""
    wanted = "a large red seven to the left of a small blue three"
    swapped = "a large red three to the left of a small blue seven"
    assert exact_meteor(swapped, [wanted]) > 0.25


def test_which_meteor_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert meteor(["red cup", ""], [["red cup"], ["red"]]) == ([1.0, 0.0], EXACT)
    assert meteor([], []) == ([], EXACT)


@needs_package
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
def test_meteor_of_the_jar() -> None:
    """The values of METEOR 1.5 itself, which knows synonyms; where none is there, those of exact matches."""
    pairs = [
        ("small red seven", "large red seven"),
        ("large blue three", "large red seven"),
        ("a large red seven", "a small blue three"),
        ("large red seven left of a small blue three", "large red three left of a small blue seven"),
    ]
    others = [("a huge dog", "a huge dog"), ("a big dog", "a huge dog"), ("", "a huge dog")]
    found, name = meteor([said for said, _ in pairs + others], [[wanted] for _, wanted in pairs + others])
    assert name == JAR
    for value, (said, wanted) in zip(found, pairs, strict=False):
        assert value == pytest.approx(exact_meteor(said, [wanted]), abs=1e-6)
    same, synonym, nothing = found[len(pairs) :]
    assert same == 1
    assert synonym > exact_meteor("a big dog", ["a huge dog"])
    assert nothing == 0


@needs_package
def test_values_worked_by_hand() -> None:
    """Two candidates: one is its reference, of the other "red" alone is right."""
    scores = sentence_scores(["large red seven", "small red zero"], [["large red seven"], ["large red three"]])
    unigrams, bigrams = 4 / 6, 2 / 4
    assert scores["BLEU-1"] == pytest.approx(unigrams, rel=1e-6)  # no candidate is too short
    assert scores["BLEU-2"] == pytest.approx(math.sqrt(unigrams * bigrams), rel=1e-6)
    assert scores["ROUGE-L"] == pytest.approx((1 + 1 / 3) / 2)  # precision and recall are equal
    # CIDEr: words of one of two references weigh ln 2, those of both nothing: "large" and "red". Trigrams of the first
    # match, and there are no longer ones.
    first = (1 + 1 + 1 + 0) / 4 * 10
    assert scores["CIDEr-D"] == pytest.approx((first + 0) / 2)


@needs_package
def test_nothing_to_judge() -> None:
    with pytest.raises(ValueError, match="there are no sentences to judge"):
        sentence_scores([], [])


def test_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rcnnkit.evaluation.sentences.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"need pycocoevalcap; install it with: pip install 'rcnnkit\[captions\]'"):
        sentence_scores(["a"], [["a"]])
