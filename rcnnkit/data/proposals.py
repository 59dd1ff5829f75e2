"""The proposals of a data set: computed into a store, and read from it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from rcnnkit.data.records import Dataset, Record
from rcnnkit.files import remove_halves
from rcnnkit.images import read_picture
from rcnnkit.progress import Report, reported, silent
from rcnnkit.proposals.methods import PictureMethod
from rcnnkit.proposals.released import Released
from rcnnkit.proposals.store import Store
from rcnnkit.structures import Proposals
from rcnnkit.text import count, visible

log = logging.getLogger("rcnnkit")


def compute_proposals(
    dataset: Dataset,
    method: PictureMethod,
    store: Store,
    *,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
    progress: Report = silent,
) -> int:
    """Find and keep the proposals of every picture that has none in the store.

    Pictures are worked on side by side, each by one thread, which is faster than all threads on one picture. Whatever
    happens, the proposals that were written are whole, and the same call goes on with the others.

    Args:
        method: as the store says; `Store.create(folder, method.name, method.settings)`.
        workers: threads; 0: one a core.
        share: (i, n): of n processes this is number i, 0-based, and takes every n-th picture.
        progress: called with what is done so far.

    Returns:
        How many pictures were new.

    Raises:
        OSError: the store cannot be written; the text says how much is safe.
        ValueError: the store is of another method or settings or data set; nothing is computed then. Or pictures could
            not be read or searched; they are named, and the others are done.
    """
    if (store.method, store.settings) != (method.name, method.settings):
        raise ValueError(f"{store.folder} is for {store.describe()}; make a store for {method.name}'s own settings")
    remove_halves(store.folder)
    number, processes = share
    records = dataset.records[number::processes]
    missing = [record for record in records if not _is_in(store, record)]
    workers = min(workers or cores(), max(1, len(missing)))
    errors = []

    def one(record: Record) -> str | None:
        try:
            picture = read_picture(record.path, record.size)
        except (OSError, ValueError) as error:
            return str(error)
        try:
            proposals = method.find(picture)
        except (MemoryError, torch.OutOfMemoryError) as error:  # a smaller one may do
            return f"{record.path}: out of memory {error}".rstrip()
        store.write(record.id, proposals, record.size, record.path)
        return None

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))  # of this thread, and of those that start from now on
    try:
        title = f"{dataset.name}, {method.name}"
        finished_count = len(records) - len(missing)
        progress(title, finished_count, len(records))
        with ThreadPoolExecutor(workers) as pool:
            for error in pool.map(one, missing):  # an exception leaves it, and what has not begun is cancelled
                errors += [error] if error else []
                progress(title, finished_count := finished_count + 1, len(records))
    except OSError as error:
        raise OSError(f"{error}. {_safe(store, records)}") from None
    except KeyboardInterrupt:
        log.warning("Stopped. %s", _safe(store, records))
        raise
    finally:
        torch.set_num_threads(threads)
    if errors:
        lines = "\n".join(f"  {visible(each)}" for each in errors)
        raise ValueError(
            f"{dataset.name}: {count(len(errors), 'picture')} could not be read or searched, the others are done:"
            f"\n{lines}"
        )
    return len(missing)


def import_proposals(dataset: Dataset, released: Released, store: Store, *, progress: Report = silent) -> int:
    """Keep the proposals of a released file that are of pictures of the data set.

    Ids are compared as texts, and as numbers where both are: 5 is 000005, and 2008000001 is 2008_000001.

    Returns:
        How many pictures got proposals.

    Raises:
        OSError: the store cannot be written.
        ValueError: the file has none of the pictures, or, without names, another number of them; or a box lies
            outside its picture.
    """
    if released.ids is None:
        if len(released) != len(dataset):
            raise ValueError(
                f"{released.path} has the proposals of {len(released)} pictures in the order of a split, but"
                f" {dataset.name} has {len(dataset)}; give the split that it was made for"
            )
        places = {record.id: i for i, record in enumerate(dataset.records)}
    else:
        index = {_number(each): i for i, each in enumerate(released.ids)} | {x: i for i, x in enumerate(released.ids)}
        pairs = (
            (record.id, index.get(str(record.id), index.get(_number(str(record.id))))) for record in dataset.records
        )
        places = {key: place for key, place in pairs if place is not None}
        if not places:
            raise ValueError(
                f"{released.path} has none of the pictures of {dataset.name}: its ids are like"
                f" {', '.join(released.ids[:2])}, and the data set's like {dataset.records[0].id}"
            )
    known_pictures = [record for record in dataset.records if record.id in places]
    for record in reported(known_pictures, f"{dataset.name}, {released.path.name}", progress):
        store.write(record.id, released.proposals(places[record.id]), record.size, record.path)
    return len(places)


def check_proposals(dataset: Dataset, store: Store) -> None:
    """Raise unless the store has the proposals of every picture.

    Raises:
        FileNotFoundError: some are missing; says how many.
        ValueError: a file holds the proposals of another picture.
    """
    missing = [record for record in dataset.records if not _is_in(store, record)]
    if missing:
        raise FileNotFoundError(
            f"{store.folder} has no proposals of {len(missing)} of the {count(len(dataset), 'picture')} of"
            f" {dataset.name} ({missing[0].id} is the first); `rcnnkit proposals compute` makes them"
        )


def is_complete(dataset: Dataset, store: Store) -> bool:
    """Whether the store has the proposals of every picture. Raises ValueError as `check_proposals`."""
    return all(_is_in(store, record) for record in dataset.records)


def read_proposals(dataset: Dataset, store: Store) -> Iterator[Proposals]:
    """The proposals of each picture in turn, in its pixels, best first. Raises what `Store.read` does."""
    return (store.read(record.id, record.size, record.path) for record in dataset.records)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(key: str) -> int | str:
    digits = key.replace("_", "")
    return int(digits) if digits.isdecimal() else key


def _is_in(store: Store, record: Record) -> bool:
    if record.id not in store:
        return False
    store.check(record.id, record.size, record.path)
    return True


def _safe(store: Store, records: Sequence[Record]) -> str:
    kept = sum(record.id in store for record in records)
    return f"The proposals of {kept} of {count(len(records), 'picture')} are safe; the same again does the others"
