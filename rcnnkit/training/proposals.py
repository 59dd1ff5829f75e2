"""The proposals that R-CNN and Fast R-CNN learn from: made before the first iteration, kept between runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rcnnkit.config import Settings
from rcnnkit.data.proposals import check_proposals, compute_proposals, cores, is_complete
from rcnnkit.data.records import Dataset
from rcnnkit.proposals.methods import PictureMethod, proposal_method
from rcnnkit.proposals.store import Store
from rcnnkit.terminal import Console, progress
from rcnnkit.training.ranks import ALONE, Ranks


def stored_proposals(settings: Settings, datasets: Sequence[Dataset], console: Console, ranks: Ranks = ALONE) -> Store:
    """A store with the proposals of every picture; those that are missing are computed now, on all cores. Several
    processes share the pictures out.

    It lies in `proposals.folder`; by default in proposals/NAME of the current folder, with the name of `data.root`.

    Raises:
        FileNotFoundError: they should have been precomputed, and some are missing.
        ValueError: as above, but no folder is given; or the store holds proposals of other pictures.
        OSError: the store cannot be written; what is in it is safe.
    """
    options = settings.proposals
    method = proposal_method(options)
    if method is None:
        if options.folder is None:
            raise ValueError('proposals.method = "precomputed" reads them from proposals.folder; give it')
        store = Store.open(options.folder)
        for dataset in datasets:
            check_proposals(dataset, store)
        return store
    folder = _folder(settings)
    workers = max(1, cores() // ranks.here)
    store = Store.create(folder, method.name, method.settings)
    with progress(console) as report:
        for dataset in datasets:
            compute_proposals(dataset, method, store, workers=workers, share=(ranks.rank, ranks.size), progress=report)
    ranks.meet()
    return store


@contextmanager
def trial_proposals(
    settings: Settings,
    datasets: Sequence[Dataset],
    sample: Dataset,
    console: Console,
    method: PictureMethod | None = None,
) -> Iterator[tuple[Store, float]]:
    """Proposals for a dry run, which leaves nothing behind: the run's own, or those of a few pictures.

    Args:
        datasets: all that the run needs the proposals of.
        sample: pictures whose proposals are computed where some of the others are missing.
        method: what computes them, in place of the settings' own.

    Yields:
        The store; and the seconds that a picture takes where they are computed, with all cores at work, or 0 where
        the store has those of every picture.

    Raises:
        FileNotFoundError, ValueError: as `stored_proposals`.
    """
    if method is None and (method := proposal_method(settings.proposals)) is None:
        yield stored_proposals(settings, datasets, console), 0.0
        return
    store = Store.find(_folder(settings), method.name, method.settings)
    if store is not None and all(is_complete(dataset, store) for dataset in datasets):
        yield store, 0.0
        return
    with TemporaryDirectory() as folder:
        store = Store.create(folder, method.name, method.settings)
        began, workers = time.perf_counter(), cores()
        with progress(console) as report:
            compute_proposals(sample, method, store, workers=workers, progress=report)
        each = (time.perf_counter() - began) * min(workers, len(sample)) / len(sample)
        yield store, each / workers


def _folder(settings: Settings) -> Path:
    return settings.proposals.folder or Path("proposals") / settings.data.root.resolve().name
