"""Regions and words in one space."""

import numpy as np
import pytest
import torch

from rcnnkit.evaluation.retrieval import retrieval
from rcnnkit.heads.alignment import Alignment, AlignmentSettings, scores_of
from rcnnkit.heads.chain import best_chain
from rcnnkit.vocabulary import Vocabulary

WORDS = ["a", "red", "cup", "tea"]
SMALL = AlignmentSettings(enabled=True, words=WORDS, space=6, embedding=5, hidden=7, dropout=0.0)
SENTENCES = ["a red cup", "tea", "a cup of tea"]


@pytest.fixture
def alignment() -> Alignment:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Alignment(4, SMALL)


def by_definition(alignment: Alignment, sentence: list[int]) -> np.ndarray:
    """(L, space): the equations of section 3.1.2, word by word."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in alignment.state_dict().items()}

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    inputs = [np.maximum(layer("word_layer", weights["embed.weight"][word]), 0) for word in sentence]
    directions = []
    for name, order in (("forwards", range(len(inputs))), ("backwards", reversed(range(len(inputs))))):
        state, states = np.zeros(7), {}
        for place in order:
            states[place] = state = np.maximum(inputs[place] + layer(name, state), 0)
        directions.append(states)
    both = [directions[0][place] + directions[1][place] for place in range(len(inputs))]
    return np.array([np.maximum(layer("last_layer", each), 0) for each in both])


def test_words_and_scores_are_the_papers(alignment: Alignment) -> None:
    numbers = Vocabulary(WORDS).encode(SENTENCES)
    words = alignment.words(numbers)
    features = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    alignment.measure(features.flatten(0, 1))
    scores = alignment.score(features, numbers).detach().numpy()
    flat = features.flatten(0, 1).double().numpy()
    layer = alignment.region_layer
    weight, bias = (each.detach().double().numpy() for each in (layer.weight, layer.bias))
    for n, row in enumerate(numbers.tolist()):
        wanted = by_definition(alignment, [number for number in row if number])
        np.testing.assert_allclose(words[n, : len(wanted)].detach().numpy(), wanted, atol=1e-6)
        assert not words[n, len(wanted) :].any()  # padding
        for k, regions in enumerate(features.double().numpy()):
            seen = (regions - flat.mean(axis=0)) / flat.var(axis=0).mean() ** 0.5 @ weight.T + bias  # (3, space)
            assert scores[k, n] == pytest.approx((seen @ wanted.T).max(axis=0).sum(), abs=1e-5)


def test_a_region_that_is_there_twice_changes_nothing(alignment: Alignment) -> None:
    numbers = Vocabulary(WORDS).encode(SENTENCES)
    features = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    twice = torch.cat([features, features[:, :1]], dim=1)
    assert torch.equal(alignment.score(features, numbers), alignment.score(twice, numbers))


def test_the_ranking_loss(alignment: Alignment) -> None:
    numbers = Vocabulary(WORDS).encode(SENTENCES)
    features = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(2))
    scores = alignment.score(features, numbers).detach().double().numpy()

    def loss(pictures: list[int]) -> float:
        total = 0.0
        for k in range(3):
            for n in range(3):
                if pictures[k] != pictures[n]:
                    total += max(0, scores[k, n] - scores[k, k] + 1) + max(0, scores[n, k] - scores[k, k] + 1)
        return total

    for pictures in ([0, 1, 2], [0, 1, 0], [5, 5, 5]):
        told = alignment.loss_sum(features, numbers, torch.tensor(pictures))
        assert told.count == 3
        assert float(told.total.detach()) == pytest.approx(loss(pictures), abs=1e-5)
    assert loss([0, 1, 0]) < loss([0, 1, 2])  # of one picture twice, the other sentence is no negative
    told.total.backward()  # of one picture alone nothing is learnt, and nothing fails
    gradient = alignment.region_layer.weight.grad
    assert gradient is not None
    assert not gradient.any()


def test_it_learns_which_region_a_word_speaks_of() -> None:
    """Each picture has regions of four of sixteen things, in any order, and its sentence names two of them. About two
    of the other 39 pictures have both."""
    things = [f"thing{number}" for number in range(16)]
    generator = torch.Generator().manual_seed(0)
    looks = torch.randn(16, 16, generator=generator)
    rows = torch.stack([torch.randperm(16, generator=generator)[:4] for _ in range(340)])
    features = looks[rows] + 0.2 * torch.randn(340, 4, 16, generator=generator)
    vocabulary = Vocabulary(["a", "and", *things])
    sentences = vocabulary.encode([f"a {things[first]} and a {things[second]}" for first, second, *_ in rows.tolist()])
    settings = AlignmentSettings(
        enabled=True, words=list(vocabulary.words), space=24, embedding=16, hidden=24, dropout=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alignment = Alignment(16, settings)
    alignment.measure(features[:300].flatten(0, 1))
    optimizer = torch.optim.AdamW(alignment.parameters(), lr=5e-3)
    for _ in range(200):
        batch = torch.randint(300, (32,), generator=generator)
        optimizer.zero_grad()
        alignment.loss_sum(features[batch], sentences[batch], batch).mean.backward()
        optimizer.step()
    alignment.eval()
    with torch.no_grad():
        scores = alignment.score(features[300:], sentences[300:])
        products = torch.einsum("krd,kld->klr", alignment.regions(features[300:]), alignment.words(sentences[300:]))
    numbers = retrieval(scores, torch.arange(40), "held out").numbers
    assert min(numbers["R5_sentences"], numbers["R5_pictures"]) > 0.8
    places = torch.stack([best_chain(each, 0.0) for each in products])[:, [1, 4]]  # of the two nouns
    assert (places == torch.tensor([0, 1])).float().mean() > 0.85


def test_features_that_never_change_are_not_divided_by_nothing(alignment: Alignment) -> None:
    features = torch.full((5, 4), 3.0)
    alignment.measure(features.half())
    assert float(alignment.feature_std) == 1
    features[:, 0] = torch.arange(5.0)
    alignment.measure(features.half())
    assert float(alignment.feature_std) == pytest.approx((2 / 4) ** 0.5)
    assert alignment.feature_mean.tolist() == [2, 3, 3, 3]


def test_scores_of_nothing() -> None:
    assert scores_of(torch.zeros(0, 1, 6), torch.zeros(2, 3, 6)).shape == (0, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cup", "cup"], "words holds 'cup' twice; leave one out"),
        (["Cup!"], r"words holds 'Cup!'; each is one word in lower case, without punctuation: \['cup'\]"),
    ],
)
def test_words_are_tokens(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlignmentSettings(words=words)
