"""How good an aligner is on pictures with sentences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rcnnkit.data.records import Dataset
from rcnnkit.defaults import BATCH
from rcnnkit.detectors.aligner import Aligner
from rcnnkit.evaluation.report import in_eval_mode
from rcnnkit.evaluation.retrieval import Retrieval, retrieval
from rcnnkit.heads.alignment import Alignment, scores_of
from rcnnkit.images import read_picture
from rcnnkit.progress import Report, silent
from rcnnkit.vocabulary import PADDING

AT_A_TIME = 2**24  # products of regions and words


def evaluate_aligner(
    aligner: Aligner, dataset: Dataset, *, batch_size: int = BATCH, progress: Report = silent
) -> Retrieval:
    """Find the sentences of each picture, and the picture of each sentence, among all of a data set.

    Raises:
        ValueError: there are no sentences, or one picture only; or a picture cannot be read.
    """
    check_sentences(dataset)
    dataset = dataset.with_words(aligner.words)
    features = see_all(aligner, dataset, batch_size=batch_size, progress=progress)
    return judge(aligner.alignment, features, dataset)


def check_sentences(dataset: Dataset) -> None:
    """Raise ValueError where nothing can be found among others: there are no sentences, or those of one picture."""
    if not dataset.words or not dataset.objects:
        raise ValueError(
            f"{dataset.name} has no sentences; give pictures with sentences in the format of COCO's captions"
            ' (data.format = "captions", --data-format captions)'
        )
    if len(dataset) < 2:
        raise ValueError(
            f"{dataset.name} has 1 picture with sentences, which is always found; give pictures to tell it from"
        )


def sentences_of(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """(S, L) the numbers of the words of all sentences, and (S,) the places of their pictures."""
    owners = np.repeat(np.arange(len(dataset)), dataset.flat.counts)
    return torch.from_numpy(dataset.flat.phrases.astype(np.int64)), torch.from_numpy(owners)


def see_all(aligner: Aligner, dataset: Dataset, *, batch_size: int = BATCH, progress: Report = silent) -> Tensor:
    """(P, 1 + regions, width) float16 on the CPU: the features of all pictures, as `Seen.filled` gives them.

    Raises:
        ValueError: a picture cannot be read; or a feature is too large for half precision.
    """
    count, records = aligner.alignment.settings.regions, dataset.records
    features = torch.zeros(len(records), 1 + count, aligner.detector.region_width, dtype=torch.float16)
    name = f"{dataset.name}: regions"
    progress(name, 0, len(records))
    for start in range(0, len(records), batch_size):
        batch = [records[i] for i in range(start, min(start + batch_size, len(records)))]
        pictures = [read_picture(record.path, record.size, checked=True) for record in batch]
        for i, regions in enumerate(aligner.see(pictures)):
            features[start + i] = regions.filled(count).half().cpu()
            if not features[start + i].isfinite().all():
                raise ValueError(
                    f"{batch[i].path}: a feature of a region is not finite in half precision (the largest is"
                    f" {float(regions.features.abs().max()):g}); was the detector trained with too high a learning"
                    " rate?"
                )
        progress(name, start + len(batch), len(records))
    return features


@torch.no_grad()
def judge(alignment: Alignment, features: Tensor, dataset: Dataset) -> Retrieval:
    """See `evaluate_aligner`; of features as `see_all` gives them. The words' numbers are those of `alignment`."""
    sentences, owners = sentences_of(dataset)
    device = alignment.feature_mean.device
    with in_eval_mode(alignment):
        chunk = max(1, AT_A_TIME // (sentences.shape[1] * features.shape[1] * len(features)))
        scores, silent_words, real_words = [], 0, 0
        regions = torch.cat([alignment.regions(each.to(device)) for each in features.split(64)])
        for part in sentences.split(chunk):
            words = alignment.words(part.to(device))
            silent_words += int(((words == 0).all(dim=2).cpu() & (part != PADDING)).sum())
            real_words += int((part != PADDING).sum())
            scores.append(scores_of(regions, words).cpu())
    return retrieval(torch.cat(scores, dim=1), owners, dataset.name, silent_words / max(1, real_words))
