"""How like a sentence is to others that say the same: METEOR, BLEU, ROUGE-L and CIDEr-D.

Sentences are words with spaces between them, as `rcnnkit.vocabulary` decodes them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75  # of METEOR 1.5 for English
BEAM = 40  # alignments that are followed at a time, as in METEOR 1.5
JAR, EXACT = "METEOR 1.5", "METEOR by exact matches"
PACKAGE = "pycocoevalcap"
# Words that say little by themselves; METEOR weighs them less.
FUNCTION_WORDS = frozenset(
    [
        "a",
        "about",
        "after",
        "all",
        "also",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "between",
        "both",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "down",
        "during",
        "each",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "here",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "may",
        "me",
        "more",
        "most",
        "my",
        "no",
        "not",
        "now",
        "of",
        "off",
        "on",
        "one",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "said",
        "same",
        "she",
        "should",
        "so",
        "some",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "two",
        "under",
        "up",
        "us",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[float], str]:
    """METEOR of each candidate, the best over its references, 0 to 1; and which METEOR it is.

    JAR is version 1.5 with stems, synonyms and paraphrases, as the papers have it. It needs Java and the package
    pycocoevalcap. Without them it is EXACT, which matches equal words alone, and is lower.
    """
    if shutil.which("java") is None or find_spec(PACKAGE) is None:
        return [exact_meteor(*pair) for pair in zip(candidates, references, strict=True)], EXACT
    from pycocoevalcap.meteor.meteor import Meteor

    indices = [i for i, candidate in enumerate(candidates) if candidate.strip() and references[i]]
    scores = [0.0] * len(candidates)
    if indices:
        _, values = Meteor().compute_score(
            {i: list(references[i]) for i in indices}, {i: [candidates[i]] for i in indices}
        )
        for i, score in zip(indices, values, strict=True):
            scores[i] = float(score)
    return scores, JAR


def exact_meteor(candidate: str, references: Sequence[str]) -> float:
    """METEOR 1.5 with its weights for English, where only equal words match (its option `-m exact`)."""
    return max((_exact_meteor(candidate.split(), reference.split()) for reference in references), default=0.0)


def _exact_meteor(candidate: list[str], reference: list[str]) -> float:
    matches, chunks = _align(candidate, reference)
    if not matches:
        return 0.0
    weights = [1 - DELTA if word in FUNCTION_WORDS else DELTA for word in candidate]
    hit = sum(weights[i] for i in matches)
    precision = hit / sum(weights)
    recall = hit / sum(1 - DELTA if word in FUNCTION_WORDS else DELTA for word in reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    if chunks == 1 and len(matches) == len(candidate) == len(reference):
        return mean
    return mean * (1 - GAMMA * (chunks / len(matches)) ** BETA)


def _align(candidate: list[str], reference: list[str]) -> tuple[list[int], int]:
    """Which words of the first are matched, and in how many pieces that are together in both: as many words as can be,
    in as few pieces."""
    # Of each: the matches, the pieces, the last match in `reference`, and which of its words are used.
    states: list[tuple[list[int], int, int, frozenset[int]]] = [([], 0, -2, frozenset())]
    for i, word in enumerate(candidate):
        grown = list(states)
        for matches, chunks, last, used in states:
            goes_on = bool(matches) and matches[-1] == i - 1
            for j, other in enumerate(reference):
                if word == other and j not in used:
                    together = goes_on and last == j - 1
                    grown.append(([*matches, i], chunks + (not together), j, used | {j}))
        states = sorted(grown, key=lambda state: (-len(state[0]), state[1]))[:BEAM]
    return states[0][:2]


def sentence_scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Mapping[str, float]:
    """BLEU-1 to -4, ROUGE-L and CIDEr-D of all candidates together, each with its references, by pycocoevalcap.

    CIDEr weighs words by how rare they are in these references, so that values of small sets do not compare.

    Raises:
        ValueError: there are no candidates, or pycocoevalcap is not installed.
    """
    if not candidates:
        raise ValueError("there are no sentences to judge")
    if find_spec(PACKAGE) is None:
        raise ValueError(f"BLEU, ROUGE-L and CIDEr-D need {PACKAGE}; install it with: pip install 'rcnnkit[captions]'")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    references_by_id = {i: list(each) for i, each in enumerate(references)}
    candidates_by_id = {i: [each] for i, each in enumerate(candidates)}
    bleu, _ = Bleu(4).compute_score(references_by_id, candidates_by_id, verbose=0)
    rouge, _ = Rouge().compute_score(references_by_id, candidates_by_id)
    cider, _ = Cider().compute_score(references_by_id, candidates_by_id)
    names = (*(f"BLEU-{n}" for n in range(1, 5)), "ROUGE-L", "CIDEr-D")
    return dict(zip(names, map(float, (*bleu, rouge, cider)), strict=True))
