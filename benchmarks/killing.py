"""Runs a `drpo` command and kills its own process at a named point, for the n-th time it comes by.

    python -m benchmarks.killing POINT N -- optimize ...

`kill -9` of oneself: nothing is flushed, closed or said. Stands in for a power switch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.store import RunStore
from drpo.cli import main

Method = Callable[..., Awaitable[Any]]

POINTS: dict[str, tuple[type, str, bool]] = {
    "before ledger insert": (SqliteLedger, "record", True),
    "after ledger insert": (SqliteLedger, "record", False),
    "before checkpoint": (AsyncSqliteSaver, "aput", True),
    "after checkpoint": (AsyncSqliteSaver, "aput", False),
    "before task writes": (AsyncSqliteSaver, "aput_writes", True),
    "after task writes": (AsyncSqliteSaver, "aput_writes", False),
    "between levels": (RunStore, "settle", False),
    "while it ends": (RunStore, "finish", True),
}
"""Class, method, and whether it is just before or just after."""
BEFORE_THE_FIRST = "before the first checkpoint"
"""The first time that anything is checkpointed."""


def arm(point: str, times: int) -> None:
    """Die when `point` comes by for the `times`-th time."""
    known = "before checkpoint" if point == BEFORE_THE_FIRST else point
    kind, name, before = POINTS[known]
    method: Method = getattr(kind, name)
    left = 1 if point == BEFORE_THE_FIRST else times

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def dying(*arguments: Any, **named: Any) -> Any:
        if before:
            count()
        result = await method(*arguments, **named)
        if not before:
            count()
        return result

    setattr(kind, name, dying)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    main(sys.argv[4:])
