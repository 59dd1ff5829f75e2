"""The proposals that R-CNN and Fast R-CNN learn from: made before the first iteration, kept between runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rcnnkit.config import Settings
from rcnnkit.data.proposals import check_proposals, compute_proposals, cores
from rcnnkit.data.records import Dataset
from rcnnkit.proposals.methods import proposal_method
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
    folder = options.folder or Path("proposals") / settings.data.root.resolve().name
    workers = max(1, cores() // ranks.here)
    store = Store.create(folder, method.name, method.settings)
    with progress(console) as report:
        for dataset in datasets:
            compute_proposals(dataset, method, store, workers=workers, share=(ranks.rank, ranks.size), progress=report)
    ranks.gathered(None)  # until all are there
    return store
