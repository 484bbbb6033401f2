"""Shows a running search on standard error: a live line on a terminal, else lines.

Off a terminal there is a line a level, and one whenever it would be silent for too long.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console
from rich.live import Live
from rich.text import Text

from drpo.models.ledger import Usage
from drpo.quiet import ready, repeating
from drpo.run import LEVEL, Observer, Snapshot
from drpo.wording import SHORT_ID, one_line

LONGEST_IN_SECONDS = 100
LONGEST_IN_MINUTES = 100
MOST_OF_BEAM = 4
"""Candidates that are named: a line of a wide beam is longer than any terminal."""


@contextmanager
def progress() -> Iterator[tuple[Observer, Callable[[str], None]]]:
    """An observer for the search, and a way to say something meanwhile."""
    ready()
    console = Console(stderr=True, highlight=False)
    yield from (_live if console.is_terminal else _plain)(console)


def _plain(console: Console) -> Iterator[tuple[Observer, Callable[[str], None]]]:
    shown = _Line()

    def say(text: Text | None = None) -> None:
        console.print(shown.__rich__() if text is None else text, soft_wrap=True)

    with repeating(say) as spoken:

        def observe(snapshot: Snapshot) -> None:
            shown.snapshot, shown.since = snapshot, time.monotonic()
            if is_a_step(snapshot):
                say()
                spoken()

        yield observe, lambda text: say(Text(one_line(text)))


def _live(console: Console) -> Iterator[tuple[Observer, Callable[[str], None]]]:
    shown = _Line()
    with Live(shown, console=console, refresh_per_second=4, transient=True) as live:

        def observe(snapshot: Snapshot) -> None:
            shown.snapshot, shown.since = snapshot, time.monotonic()

        yield observe, lambda text: live.console.print(Text(one_line(text)))
    if shown.snapshot is not None:
        console.print(Text(line(shown.snapshot)))


class _Line:
    """Rendered anew at each refresh, because calls and tokens go on counting between levels."""

    snapshot: Snapshot | None = None
    since: float = 0.0
    """When the snapshot came, on the monotonic clock."""

    def __rich__(self) -> Text:
        if self.snapshot is None:
            return Text("starting")
        passed = time.monotonic() - self.since
        left = self.snapshot.seconds_left
        left = None if left is None else max(0.0, left - passed)
        now = replace(self.snapshot, seconds=self.snapshot.seconds + passed, seconds_left=left)
        return Text(line(now))


def is_a_step(snapshot: Snapshot) -> bool:
    """Whether it is worth a line of its own: every level, and every tenth part of a stage."""
    every = max(1, snapshot.of // 10)
    return snapshot.stage == LEVEL or snapshot.done % every == 0


def line(snapshot: Snapshot) -> str:
    """One line: level, beam, calls, tokens, cost, time."""
    beam = "  ".join(
        f"#{candidate}" if value is None else f"#{candidate} {value:.2f}"
        for candidate, value in snapshot.beam[:MOST_OF_BEAM]
    )
    more = len(snapshot.beam) - MOST_OF_BEAM
    beam += f"  and {more} more" if more > 0 else ""
    level = snapshot.stage == LEVEL
    usage = snapshot.usage
    parts = [
        f"run {snapshot.run_id[:SHORT_ID]}",
        f"{snapshot.stage} {snapshot.done:,}/{snapshot.of:,}",
        *([f"beam {beam or '-'}"] if level else []),
        f"{usage.calls:,} calls",
        f"{usage.tokens:,} tokens",
        "cost unknown" if usage.cost_usd is None else f"${usage.cost_usd:.2f}",
        *_unusable(usage),
        duration(snapshot.seconds)
        if not snapshot.seconds_left
        else f"{duration(snapshot.seconds)}, about {duration(snapshot.seconds_left)} left",
    ]
    return " | ".join(parts)


def _unusable(usage: Usage) -> list[str]:
    """Replies of which nothing could be used, by how they ended."""
    ended: Counter[str] = Counter()
    for role in usage.roles.values():
        ended.update(role.outcomes)
    return [f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(ended.items())]


def duration(seconds: float) -> str:
    """`42 s`, `7 min`, `3.1 h`."""
    if seconds < LONGEST_IN_SECONDS:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < LONGEST_IN_MINUTES else f"{minutes / 60:.1f} h"
