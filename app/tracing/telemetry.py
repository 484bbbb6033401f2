"""Tells a collector of a run while it goes on: off the hot path, and never in its way.

A thread of its own reads what is committed, level by level, and sends it. What a collector took is
noted in the run's file, so that a resumed run does not send it again. A collector that is away
costs a line; what it missed is sent after the next level, or at the end.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from drpo.checkpoints.rows import now
from drpo.checkpoints.runs import reading
from drpo.checkpoints.store import RunStore
from drpo.commands import send_command
from drpo.conf.schema import ENVIRONMENT, TelemetrySettings
from drpo.graph.errors import BadInput, DrpoError
from drpo.models.keys import read_headers
from drpo.tracing.spans import Span, Trace, Unit, settled, units

if TYPE_CHECKING:
    from drpo.tracing.otel import Sender

EXTRA = "opentelemetry.exporter"
"""What `drpo[otel]` brings."""
AT_ONCE = 512
"""Spans in one request, as OpenTelemetry's own batches have."""
LAST_S = 5.0
"""How long the end of a run waits for a collector that takes one request after the other."""
HURRIED_S = 0.5
"""How long a run that was stopped does."""
PATIENCE_S = {True: 2.0, None: 1.0, False: 0.2}
"""How long either waits for one answer, by whether the last request was taken; None: there was
none."""

LOOK_S = 0.05
"""How often it looks meanwhile whether that has changed."""

Say = Callable[[str], None]


def check_telemetry(settings: TelemetrySettings) -> None:
    """Raises BadInput where spans are wanted and cannot be sent from here."""
    if settings.otlp is None:
        return
    try:
        there = importlib.util.find_spec(EXTRA) is not None
    except ModuleNotFoundError:
        there = False
    if not there:
        raise BadInput("telemetry.otlp needs drpo[otel]: pip install 'drpo[otel]'")
    read_headers(settings.headers, "telemetry")


def sender_of(settings: TelemetrySettings) -> Sender:
    """To the collector that the settings name. Raises BadInput."""
    check_telemetry(settings)
    from drpo.tracing.otel import Sender, otlp_exporter  # noqa: PLC0415 - an extra

    headers = read_headers(settings.headers, "telemetry")
    return Sender(otlp_exporter(settings.otlp or ENVIRONMENT, headers))


def batches(spans: Sequence[Span], first: int = 0) -> Iterator[slice]:
    """Of those from the first on."""
    return (slice(at, at + AT_ONCE) for at in range(first, len(spans), AT_ONCE))


class Follower:
    """Sends what is new of one run whenever it is nudged."""

    def __init__(
        self,
        path: Path,
        sender: Sender,
        *,
        texts: bool,
        mark: Callable[[Unit], None],
        complain: Say,
    ) -> None:
        """`mark` notes, from another thread, that a unit was taken; `complain` hears once of it."""
        self._path = path
        self._sender = sender
        self._texts = texts
        self._mark = mark
        self._complain = complain
        self._complained = False
        self._sent: set[Unit] | None = None
        self._begun: dict[Unit, int] = {}
        """How many of the spans of a unit were taken, where not all of them were."""
        self._wake = threading.Event()
        self._over = False
        self._left = False
        """Nobody waits for it any more."""
        self._taken: bool | None = None
        """Whether the last request was; None before the first answer."""
        self._asked_at: float | None = None
        """When the request in flight was sent."""
        self._thread = threading.Thread(target=self._follow, name="drpo-telemetry", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """There may be something new. Costs nothing."""
        self._wake.set()

    def close(self, at_most_s: float) -> None:
        """Send what is left, as long as that seems to be worth the wait."""
        self._over = True
        self._wake.set()
        end = time.monotonic() + at_most_s
        while self._thread.is_alive() and (left_s := self._until(end) - time.monotonic()) > 0:
            self._thread.join(min(left_s, LOOK_S))
        self._left = self._thread.is_alive()
        self._sender.close()
        if self._left:
            hangs = self._asked_at is not None
            self._say("the collector does not answer" if hangs else "there was no time for all")

    def _until(self, end: float) -> float:
        asked_at = self._asked_at
        return end if asked_at is None else min(end, asked_at + PATIENCE_S[self._taken])

    def _follow(self) -> None:
        last = False
        while not last:
            self._wake.wait()
            self._wake.clear()
            last = self._over
            try:
                problem = self._send_new()
            except (DrpoError, sqlite3.Error) as error:
                problem = str(error)
            if problem is not None and not self._left:
                self._say(problem)

    def _send_new(self) -> str | None:
        # Closed again before anything is sent: an open look at the file would keep its log growing.
        with reading(self._path) as db:
            if self._sent is None:
                self._sent = {Unit(**row) for row in db.query("select search, level from traced")}
            [row] = db.query("select status from run")
            found = units(db) if row["status"] == "done" else settled(db)
        for unit in (each for each in found if each not in self._sent):
            with reading(self._path) as db:
                trace = Trace(db, texts=self._texts)
                spans = trace.spans(unit)
            problem = self._send(unit, trace.id, spans)
            if problem is not None or self._left:
                return problem
            self._sent.add(unit)
            self._mark(unit)
        return None

    def _send(self, unit: Unit, trace: int, spans: Sequence[Span]) -> str | None:
        """The rest of them."""
        for batch in batches(spans, self._begun.pop(unit, 0)):
            self._asked_at = time.monotonic()
            problem = self._sender.send(trace, spans[batch])
            self._taken, self._asked_at = problem is None, None
            if problem is not None:
                self._begun[unit] = batch.start
                return str(problem)
        return None

    def _say(self, problem: str) -> None:
        """Once: what comes later is of the same trouble, and is sent by the same command."""
        if not self._complained:
            self._complained = True
            self._complain(problem)


@asynccontextmanager
async def told(
    settings: TelemetrySettings, path: Path, store: RunStore, say: Say | None
) -> AsyncIterator[Callable[[], None]]:
    """Meanwhile the collector of the settings is told of the run, whenever the caller nudges."""
    if settings.otlp is None:
        yield lambda: None
        return
    later = send_command(path.stem, path.parent, settings.otlp, texts=settings.texts)
    loop, marks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def note(unit: Unit) -> None:
        row = (unit.search, unit.level, now())
        await store.write(("insert or replace into traced values (?, ?, ?)", [row]))

    def begin(unit: Unit) -> None:
        marks.add(loop.create_task(note(unit)))

    def mark(unit: Unit) -> None:
        loop.call_soon_threadsafe(begin, unit)

    def complain(problem: str) -> None:
        if say is not None:
            said = f"spans could not be sent ({problem}); the search is not affected."
            say(f"{said} To send them later: {later}")

    sender = await asyncio.to_thread(sender_of, settings)
    follower = Follower(path, sender, texts=settings.texts, mark=mark, complain=complain)
    at_most_s = HURRIED_S
    try:
        yield follower.nudge
        at_most_s = LAST_S
    finally:
        await asyncio.to_thread(follower.close, at_most_s)
        await asyncio.gather(*marks, return_exceptions=True)
