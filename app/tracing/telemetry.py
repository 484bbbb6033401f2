"""Tells a collector of a run while it goes on: off the hot path, and never in its way.

A thread of its own reads what is committed, level by level, and sends it. What a collector took is
noted in the run's file, so that a resumed run does not send it again. A collector that is away
costs a line; what it missed is sent after the next level, or at the end.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from drpo.checkpoints.rows import now
from drpo.checkpoints.runs import reading
from drpo.checkpoints.store import RunStore
from drpo.conf.schema import ENVIRONMENT, TelemetrySettings
from drpo.graph.errors import BadInput, DrpoError
from drpo.models.keys import read_headers
from drpo.tracing.spans import Trace, Unit, settled, units

if TYPE_CHECKING:
    from drpo.tracing.otel import Sender

EXTRA = "opentelemetry.exporter"
"""What `drpo[otel]` brings."""
LAST_S = 5.0
"""How long the end of a run waits for a collector."""
HURRIED_S = 0.5
"""How long a run that was stopped does."""

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


class Follower:
    """Sends what is new of one run whenever it is nudged."""

    def __init__(
        self,
        path: Path,
        sender: Sender,
        *,
        texts: bool,
        mark: Callable[[Unit], None],
        say: Say | None = None,
    ) -> None:
        """`mark` notes, from another thread, that a unit was taken."""
        self._path = path
        self._sender = sender
        self._texts = texts
        self._mark = mark
        self._say = say
        self._sent: set[Unit] | None = None
        self._wake = threading.Event()
        self._over = False
        self._left = False
        """Nobody waits for it any more."""
        self._problem: str | None = None
        self._sending_since: float | None = None
        self._thread = threading.Thread(target=self._follow, name="drpo-telemetry", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """There may be something new. Costs nothing."""
        self._wake.set()

    def close(self, patience_s: float) -> None:
        """Send what is left, for at most so long; less where the collector seems to be away."""
        since = self._sending_since
        if self._problem or (since is not None and time.monotonic() - since > HURRIED_S):
            patience_s = min(patience_s, HURRIED_S)
        self._over = True
        self._wake.set()
        self._thread.join(patience_s)
        self._left = self._thread.is_alive()
        # Wakes an exporter that waits for its collector to come back.
        self._sender.close()
        if self._left:
            self._complain(f"the collector did not answer within {patience_s:g} s")

    def _follow(self) -> None:
        last = False
        while not last:
            self._wake.wait()
            self._wake.clear()
            last = self._over
            try:
                problem = self._send_new()
            except DrpoError as error:
                problem = str(error)
            if problem is not None and not self._left and (last or problem != self._problem):
                self._complain(problem)
            self._problem = problem

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
            self._sending_since = time.monotonic()
            problem = self._sender.send(trace.id, spans)
            self._sending_since = None
            if problem is not None or self._left:
                return problem
            self._sent.add(unit)
            self._mark(unit)
        return None

    def _complain(self, problem: str) -> None:
        if self._say is not None:
            self._say(
                f"spans could not be sent ({problem}); the run goes on, and "
                "`drpo export --format otel --otlp ADDRESS` sends them later"
            )


@asynccontextmanager
async def told(
    settings: TelemetrySettings, path: Path, store: RunStore, say: Say | None
) -> AsyncIterator[Callable[[], None]]:
    """Meanwhile the collector of the settings is told of the run, whenever the caller nudges."""
    if settings.otlp is None:
        yield lambda: None
        return
    loop, marks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def note(unit: Unit) -> None:
        row = (unit.search, unit.level, now())
        await store.write(("insert or replace into traced values (?, ?, ?)", [row]))

    def begin(unit: Unit) -> None:
        marks.add(loop.create_task(note(unit)))

    def mark(unit: Unit) -> None:
        loop.call_soon_threadsafe(begin, unit)

    sender = await asyncio.to_thread(sender_of, settings)
    follower = Follower(path, sender, texts=settings.texts, mark=mark, say=say)
    patience_s = HURRIED_S
    try:
        yield follower.nudge
        patience_s = LAST_S
    finally:
        await asyncio.to_thread(follower.close, patience_s)
        await asyncio.gather(*marks, return_exceptions=True)
