"""What a detector that describes learns to say: the words of its training data."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rcnnkit.config import DESCRIBE
from rcnnkit.data.records import Dataset, few
from rcnnkit.text import count
from rcnnkit.training.run import Run
from rcnnkit.vocabulary import PADDING

log = logging.getLogger("rcnnkit")


def learn_words(run: Run, training: Dataset, validation: Dataset | None) -> tuple[Dataset, Dataset | None]:
    """Both data sets with their phrases in the numbers of the words that are learnt, which become `captions.words` of
    the run. Where no phrases are learnt, both as they are.

    Raises:
        ValueError: a data set has no phrases, or none of its words is learnt.
    """
    captions = run.settings.captions
    kind = run.settings.model.kind
    if kind not in DESCRIBE:
        return training, validation
    for data in [training] if validation is None else [training, validation]:
        if not data.words:
            raise ValueError(
                f'{data.name} has no phrases, which model.kind = "{kind}" learns from; give described regions in the'
                ' format of Visual Genome\'s region_descriptions.json (data.format = "visual_genome") or sentences in'
                ' that of COCO\'s captions (data.format = "captions"), or set another model.kind'
            )
    words = words_learnt(training, "captions", captions.minimum_count, captions.words)
    run.settings = run.settings.model_copy(update={"captions": captions.model_copy(update={"words": words})})
    long = int(((training.flat.phrases != PADDING).sum(axis=1) > captions.max_words).sum())
    if long:
        log.warning(
            "%s: %s too long for captions.max_words = %d; these objects are learnt without their phrases",
            *(training.name, f"{count(long, 'phrase')} {'is' if long == 1 else 'are'}", captions.max_words),
        )
    return training.with_words(words), None if validation is None else validation.with_words(words)


def words_learnt(training: Dataset, section: str, minimum_count: int, words: Sequence[str] | None) -> list[str]:
    """`words`, or those that are in the phrases at least so many times, the most frequent first.

    Args:
        section: of the settings that the last two are of.

    Raises:
        ValueError: none of them is in the phrases.
    """
    counts = training.words_of()
    learnt = [word for word, number in counts.items() if number >= minimum_count] if words is None else list(words)
    if not any(word in counts for word in learnt):
        if words is not None:
            raise ValueError(
                f"{section}.words has none of the words of {training.name}, such as {few(list(counts))}; leave it out"
            )
        most, number = counts.most_common(1)[0]
        raise ValueError(
            f"{section}.minimum_count = {minimum_count}, and {most!r}, the most frequent word in {training.name}, is"
            f" there {count(number, 'time')}; lower it"
        )
    share = sum(counts[word] for word in learnt) / counts.total()
    log.info(
        "%s: learns %s, which are %.1f%% of all that is said", training.name, count(len(learnt), "word"), 100 * share
    )
    return learnt
