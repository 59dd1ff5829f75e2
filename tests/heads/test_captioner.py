"""What says phrases."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from rcnnkit.heads.captioner import Captioner, CaptionSettings, RegionCaptioner
from rcnnkit.vocabulary import END, FIRST, PADDING, START, Vocabulary

WORDS = ["a", "red", "cup"]


@pytest.fixture
def captioner() -> Captioner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Captioner(5, CaptionSettings(words=WORDS, hidden=8, embedding=6, max_words=3))
        torch.nn.init.normal_(made.score_layer.weight)
        return made


def features(rows: int) -> torch.Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(1))


def log_probability(captioner: Captioner, feature: torch.Tensor, words: list[int]) -> float:
    """Of the words and END, step by step, by the definition."""
    seen = captioner.see(feature[None]).relu()[:, None]
    _, state = captioner.lstm(seen)
    total = 0.0
    for before, word in zip([START, *words], [*words, END], strict=True):
        out, state = captioner.lstm(seen + captioner.embed(torch.tensor([[before]])), state)
        total += float(captioner.score_layer(out[0, 0]).log_softmax(0)[word].detach())
    return total


def test_the_loss_is_the_log_loss_of_real_words(captioner: Captioner) -> None:
    phrases = Vocabulary(WORDS).encode(["a red cup", "cup", "", "a red cup red"])
    seen = features(4)
    loss = captioner.loss_sum(seen, phrases)
    rows = [[4, 5, 6], [6]]  # nothing is learnt from no words, nor from more than `max_words`
    by_hand = -sum(log_probability(captioner, seen[i], row) for i, row in enumerate(rows))
    assert loss.count == 4 + 2
    assert float(loss.total.detach()) == pytest.approx(by_hand, rel=1e-5)
    loss.total.backward()
    assert all(each.grad is not None and each.grad.any() for each in captioner.parameters())
    nothing = captioner.loss_sum(seen[:0], phrases[:0])
    assert (float(nothing.total.detach()), nothing.count, float(nothing.mean.detach())) == (0, 0, 0)
    assert captioner.loss_sum(seen, phrases[:, :0]).count == 0


def test_what_was_seen_lasts() -> None:
    """Before anything is learnt, the last of ten words is about the feature as much as the second one is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        captioner = Captioner(5, CaptionSettings(words=WORDS, hidden=64, embedding=64))
    with torch.no_grad():
        logits = captioner(features(8), torch.full((8, 9), 5))
    about = logits.sub(logits.mean(0)).norm(dim=(0, 2))  # of each word
    assert about[9] >= about[1]


def test_padding_changes_nothing(captioner: Captioner) -> None:
    seen, phrases = features(2), Vocabulary(WORDS).encode(["a red", "cup"])
    longer = captioner.loss_sum(seen, F.pad(phrases, (0, 7)))
    torch.testing.assert_close(longer.total, captioner.loss_sum(seen, phrases).total)


def test_beams(captioner: Captioner) -> None:
    """A beam wide enough finds the likeliest phrase of all; a greedy one takes the likeliest word each time."""
    seen = features(6)
    numbers = range(FIRST, FIRST + len(WORDS))
    with torch.no_grad():
        for beam in (1, 100):
            for feature, said in zip(seen, captioner.describe(seen, beam).tolist(), strict=True):
                words = [number for number in said if number != PADDING]
                assert said == words + [PADDING] * (3 - len(words))
                if beam == 1:
                    assert words == greedy(captioner, feature)
                    continue
                full = [list(each) for n in (1, 2) for each in itertools.product(numbers, repeat=n)]
                scored = {tuple(each): log_probability(captioner, feature, each) for each in full}
                for each in itertools.product(numbers, repeat=3):  # which have no room for END
                    of_end = float(captioner(feature[None], torch.tensor([each]))[0, 3].log_softmax(0)[END])
                    scored[each] = log_probability(captioner, feature, list(each)) - of_end
                assert tuple(words) == max(scored, key=lambda each: scored[each])
    assert captioner.describe(seen).equal(captioner.describe(seen, 1))


def greedy(captioner: Captioner, feature: torch.Tensor) -> list[int]:
    words: list[int] = []
    while len(words) < 3:
        scores = captioner(feature[None], torch.tensor([words], dtype=torch.int64))[0, -1]
        scores[:END] = -math.inf
        scores[END + 1] = -math.inf  # the unknown word
        if not words:
            scores[END] = -math.inf
        if (best := int(scores.argmax())) == END:
            break
        words.append(best)
    return words


def test_nothing_to_describe(captioner: Captioner) -> None:
    assert captioner.describe(features(0)).shape == (0, 3)
    dumb = Captioner(5, CaptionSettings(hidden=4, embedding=4))
    assert not dumb.describe(features(2)).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b", "a"], "words holds 'a' twice; leave one out"),
        (["Red"], r"words holds 'Red'; each is one word in lower case, without punctuation: \['red'\]"),
        (["a cup"], r"words holds 'a cup'; each is one word .*: \['a', 'cup'\]"),
    ],
)
def test_words_that_no_phrase_has(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CaptionSettings(words=words)


def test_no_part_of_what_is_seen_hides_another() -> None:
    captioner = RegionCaptioner(4, 3, CaptionSettings(words=WORDS, hidden=6, embedding=6))
    generator = torch.Generator().manual_seed(0)
    fc7, regions = (torch.randn(5, *shape, generator=generator) for shape in ((4,), (3, 2, 2)))
    seen = captioner.join(fc7, regions)
    for part, wanted in zip(seen.split([4, 3], dim=1), (fc7, regions.mean((2, 3))), strict=True):
        centred = wanted - wanted.mean(1, keepdim=True)
        torch.testing.assert_close(part, centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(captioner.join(1000 * fc7, regions), seen, atol=1e-4, rtol=1e-4)
