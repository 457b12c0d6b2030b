"""A sweep on several ranks: who trains which member, and what they tell each other of it.

Members are dealt out in turns; all ranks run the model together and see every batch. A member is trained by one rank
alone, so that its files do not depend on how many ranks there are. Each rank writes its members' run folders and rank 0
the rest: the folder of a sweep must be one that all of them see.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from interp.distributed import Ranks
from interp.errors import InterpError
from interp.loop import BatchSource
from saes.sweep_config import Member, SweepConfig
from saes.sweep_folder import SweepRecord

T = TypeVar("T")


def own_members(config: SweepConfig, ranks: Ranks) -> tuple[Member, ...]:
    """The members that this rank trains."""
    return config.members()[ranks.rank :: ranks.n]


def put_together(record: SweepRecord, own: Iterable[Member], ranks: Ranks) -> SweepRecord:
    """The record with what every rank knows of its members; all ranks ask for it."""
    mine = {member.name: record.members[member.name] for member in own}
    known = {name: member for of_rank in ranks.all_objects(mine) for name, member in of_rank.items()}
    return record.model_copy(update={"members": {name: known[name] for name in record.members}})


def by_all(work: Callable[[], T], ranks: Ranks) -> T:
    """What each rank's `work` gives it.

    Raises: at every rank, the InterpError of the first that has one.
    """
    result, error = None, None
    try:
        result = work()
    except InterpError as raised:
        error = raised
    for other in ranks.all_objects(error):
        if other is not None:
            raise other
    assert result is not None
    return result


def to_same_place(batches: BatchSource, ranks: Ranks, *, placed: bool) -> None:
    """Take a stream to where that of the ranks is which have `placed` theirs: one without members has not."""
    if ranks.n == 1:
        return
    cursors = ranks.all_objects(batches.cursor() if placed else None)
    there = next((cursor for cursor in cursors if cursor is not None), None)
    if not placed and there is not None:
        batches.seek(there)
