"""Runs a search from start to end, or from where it stopped: opens everything, closes everything.

The one place that knows all the parts: settings, queries, models, the run's file and the graph.
How progress is shown is the observer's business.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

import drpo
from drpo import session_log
from drpo.aligning import Stages
from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.reader import FAILURES, calls_made, paused_by_failures, waits_for_review
from drpo.checkpoints.runs import (
    HEARTBEAT_S,
    Fingerprint,
    StoredRun,
    before_session,
    create_run,
    hold_against,
    owning,
    reading,
    remove_run,
)
from drpo.checkpoints.store import RunStore, open_store
from drpo.conf.schema import ModelsSettings, Settings
from drpo.graph.build import fingerprint, initial_state
from drpo.graph.context import Retriever
from drpo.graph.errors import BadInput, ProviderRefused, RunFailed, RunPaused, TooManyFailures
from drpo.graph.values import ROLES, Example, Kind, Role
from drpo.kinds import Plan
from drpo.logs import RunLog, run_log, secrets_in
from drpo.models.caller import LedgeredCaller
from drpo.models.ledger import Usage
from drpo.models.prices import price_of
from drpo.models.provider import Provider
from drpo.models.providers import check_providers, open_providers
from drpo.models.retrieval import ExampleRetriever, check_embedder
from drpo.models.sandbox.world import world_sha256
from drpo.nodes.prompts import JinjaTemplates
from drpo.parts import context_for, order_of
from drpo.review import NO_CHANGES, Changes
from drpo.searching import Search, Searcher
from drpo.tracing.telemetry import check_telemetry, told

GRACE_S = 3.0
"""How long calls in flight may still land after the run was cancelled."""


LEVEL = "level"
"""What is counted while a prompt is searched for."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a running search stands."""

    run_id: str
    stage: str
    """What is counted: levels of the prompt search, or what a stage of an alignment has to do."""
    done: int
    """Of it, so far; of levels, the root's included."""
    of: int
    """As many as there will be."""
    beam: Sequence[tuple[int, float | None]]
    """Id and path value of the survivors, best first; the root has no path value. Empty where no
    level is counted."""
    usage: Usage
    """Live: it goes on counting."""
    seconds: float
    """Since this session of the run began."""
    seconds_left: float | None
    """Estimated from this session's pace; None before its first level."""


Observer = Callable[[Snapshot], None]
Providers = AbstractAsyncContextManager[Mapping[Role, Provider]]


class SearchFunction(Protocol):
    """`search`, or `first_search`."""

    async def __call__(
        self,
        run: StoredRun,
        observer: Observer | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        """To the run's end."""
        ...


def new_run(
    settings: Settings, plan: Plan, folder: Path, estimate: Mapping[str, Any] | None = None
) -> StoredRun:
    """A run in its own file, not started yet; `estimate` is kept with it. Raises BadInput."""
    order_of(settings, plan.queries)
    check_settings(settings)
    check_providers(settings.models)
    if plan.examples or plan.kind == "align":
        check_embedder(settings.retrieval.embedder)
    return create_run(
        folder,
        settings=settings.model_dump_json(),
        fingerprint=current_fingerprint(settings, plan.kind),
        queries=plan.queries,
        version=drpo.__version__,
        estimate=estimate,
        kind=plan.kind,
        examples=plan.examples,
    )


def check_settings(settings: Settings) -> None:
    """Raises BadInput for settings that fit together but not the world."""
    check_root(settings)
    check_telemetry(settings.telemetry)
    _check_budget(settings)
    _check_ledger(settings)


def _check_budget(settings: Settings) -> None:
    """A limit in dollars needs the price of every model (FAULTS B3)."""
    if settings.budget.cost_usd is None:
        return
    for role in ROLES:
        model = getattr(settings.models, role)
        asked = role != "rewarder" or settings.rewards.kind == "dynamic"
        if asked and price_of(model) is None:
            raise BadInput(
                f"budget.cost_usd={settings.budget.cost_usd:g}: the price of model {model.model!r} "
                f"is unknown; set models.{role}.price_in and models.{role}.price_out, "
                "in dollars per million tokens"
            )


def _check_ledger(settings: Settings) -> None:
    """What `ledger.reuse` names has to be a run's file."""
    if settings.ledger.reuse is not None:
        try:
            with reading(Path(settings.ledger.reuse)):
                pass
        except BadInput as error:
            raise BadInput(f"ledger.reuse: {error}") from None


def check_root(settings: Settings) -> None:
    """Raises BadInput for a root that has no prompt for the target."""
    if "system" not in settings.root:
        raise BadInput(
            f"root: a chat model needs a prompt 'system', not only {list(settings.root)}"
        )


async def search(
    run: StoredRun,
    observer: Observer | None = None,
    announce: Callable[[str], None] | None = None,
    *,
    providers: Callable[[ModelsSettings], Providers] = open_providers,
    changes: Changes = NO_CHANGES,
) -> None:
    """Run or resume `run` to its end, with a person's checked changes to a beam under review.

    With `announce`, the first Ctrl-C or SIGTERM finishes the superstep and is announced, and the
    second cancels. Raises RunPaused when it stopped in good order, RunFailed when it cannot go on.
    """
    decided = changes if waits_for_review(run.path) else None
    failed = paused_by_failures(run.path)
    settings = Settings.model_validate_json(run.settings)
    hold_against(run, current_fingerprint(settings, run.kind))
    check_settings(settings)
    before = before_session(run.path)
    async with providers(settings.models) as opened:
        with (
            owning(run.path, most_recoveries=settings.storage.recoveries, settings=run.settings),
            run_log(run.id, run.path, secrets_in(settings)) as log,
        ):
            session_log.begun(log, before, run.kind)

            def say(text: str) -> None:
                log("said", what=text)
                if announce is not None:
                    announce(text)

            async with (
                open_store(
                    run.path, full_sync=settings.storage.full_sync, reuse=settings.ledger.reuse
                ) as store,
                told(settings.telemetry, run.path, store, say) as nudge,
            ):
                told_of_it = _Listeners(observer, nudge, log)
                session = _Session(run, settings, opened, store, told_of_it, decided, failed=failed)
                await session.run(announce)


async def first_search(
    run: StoredRun,
    observer: Observer | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """`search` of a run just made, which is taken back where no model ever answered.

    Raises BadInput where a server knows no such key or model, else as `search`.
    """
    try:
        await search(run, observer, announce)
    except ProviderRefused as error:
        if calls_made(run.path):
            raise
        remove_run(run.path)
        raise BadInput(str(error)) from None


def current_fingerprint(settings: Settings, kind: Kind = "search") -> Fingerprint:
    """What a run of this kind made now relies on."""
    roles = [getattr(settings.models, role) for role in ROLES]
    simulated = any(role.provider == "sandbox" for role in roles)
    world = {"sandbox world": {"world.toml": world_sha256()}} if simulated else {}
    graphs = fingerprint(aligns=kind == "align")
    return graphs | world | {"templates": JinjaTemplates(settings.prompts.folder).hashes()}


@dataclass(frozen=True, slots=True)
class _Listeners:
    """Whom a session tells how far it is."""

    observer: Observer | None
    nudge: Callable[[], None]
    """Of whoever sends spans: called whenever a level or a part of a stage is over."""
    log: RunLog


class _Session:
    """One session of one run."""

    def __init__(
        self,
        run: StoredRun,
        settings: Settings,
        providers: Mapping[Role, Provider],
        store: RunStore,
        listeners: _Listeners,
        decided: Changes | None,
        *,
        failed: bool,
    ) -> None:
        self._nudge, self._log = listeners.nudge, listeners.log
        self._observer = listeners.observer
        self._levels = session_log.LevelLog(listeners.log, store)
        self._failed = failed
        self._decided = decided
        self._run = run
        self._settings = settings
        self._providers = providers
        self._store = store
        self._began = time.monotonic()
        self._before = 0.0
        self._begun: dict[str, tuple[int, float]] = {}
        """Of each stage: how much of it was done when this session met it, and when that was."""

    async def run(self, announce: Callable[[str], None] | None) -> None:
        """To the end; the run's status is right afterwards, whatever happened."""
        status, reason, grace_s = "failed", "", None
        ledger = SqliteLedger(self._store)
        past = await ledger.past()
        self._before = past.seconds
        caller = LedgeredCaller(
            self._providers,
            ledger,
            seed=self._settings.seed,
            concurrency=self._settings.concurrency,
            budget=self._settings.budget,
            past=past,
            say=announce,
            log=self._log,
        )
        error: BaseException | None = None
        try:
            with _draining(announce, self._log) as control:
                async with self._beating(announce):
                    await self._walk(caller, control)
            await self._store.finish()
            status = "done"
        except GraphDrained:
            status, reason = "paused", "stopped on request"
            raise RunPaused(reason) from None
        except TooManyFailures as stopped:
            status, reason = "paused", f"{FAILURES}: {stopped}"
            raise
        except RunPaused as stopped:
            status, reason, error = "paused", str(stopped), stopped
            raise
        except asyncio.CancelledError:
            status, reason, grace_s = "paused", "cancelled", GRACE_S
            raise
        except BaseException as broken:
            reason = f"{type(broken).__name__}: {broken}"
            raise
        finally:
            try:
                await caller.aclose(grace_s)
            finally:
                seconds = self._seconds()
                session_log.ended(
                    self._log,
                    self._store,
                    status,
                    reason,
                    error=error,
                    usage=caller.usage,
                    seconds=seconds,
                )
                await self._store.set_status(status, reason or None, seconds)

    def _seconds(self) -> float:
        """Of all sessions so far; a kill loses what passed since the last heartbeat."""
        return self._before + time.monotonic() - self._began

    @asynccontextmanager
    async def _beating(self, announce: Callable[[str], None] | None) -> AsyncIterator[None]:
        """Meanwhile the run's row says again and again that its owner is alive."""

        async def beat() -> None:
            warned = announce is None
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                try:
                    await self._store.heartbeat(self._seconds())
                except RunFailed:
                    # The search meets it at its own next write, and stops.
                    return
                swollen = self._store.swollen_log()
                if swollen is not None and not warned and announce is not None:
                    self._log("said", what=swollen)
                    announce(swollen)
                    warned = True

        task = asyncio.create_task(beat())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _walk(self, caller: LedgeredCaller, control: RunControl) -> None:
        searcher = Searcher(
            store=self._store, control=control, failed=self._failed, decided=self._decided
        )
        plain = self._run.kind == "search"
        retriever = await self._retriever(self._run.examples) if plain else None
        context = context_for(self._settings, self._run.queries, caller, self._store, retriever)
        whole = Search(
            thread=self._run.id,
            context=context,
            start=self._run.start or initial_state(self._settings.search),
            watch=lambda limit: self._show_level(limit, caller.usage),
        )
        if plain:
            await searcher.answer(whole)
            return
        stages = Stages(
            self._run,
            self._settings,
            searcher,
            whole,
            retrieving=self._retriever,
            watch=lambda stage, done, of: self._show(stage, done, of, (), caller.usage),
        )
        await (stages.align() if self._run.kind == "align" else stages.optimize_examples())

    async def _retriever(self, examples: Sequence[Example]) -> Retriever:
        retriever = ExampleRetriever(examples, self._settings.retrieval, self._store)
        # A wrong key or model shows before the calls that it would be too late for.
        await retriever.prepare()
        return retriever

    async def _show_level(self, limit: int, usage: Usage) -> None:
        levels, beam = await self._store.progress()
        await self._levels.tell(levels, limit, beam, usage)
        self._show(LEVEL, levels, limit, beam, usage)

    def _show(
        self,
        stage: str,
        done: int,
        of: int,
        beam: Sequence[tuple[int, float | None]],
        usage: Usage,
    ) -> None:
        self._nudge()
        if stage != LEVEL:
            session_log.stage(self._log, stage, done, of)
        if self._observer is None:
            return
        before = self._begun.setdefault(stage, (done, time.monotonic()))
        finished, passed = done - before[0], time.monotonic() - before[1]
        left = passed / finished * max(0, of - done) if finished else None
        seconds = time.monotonic() - self._began
        self._observer(Snapshot(self._run.id, stage, done, of, beam, usage, seconds, left))


@contextmanager
def _draining(announce: Callable[[str], None] | None, log: RunLog) -> Iterator[RunControl]:
    """The run's control; signals ask it to drain, and then cancel."""
    control, task, loop = RunControl(), asyncio.current_task(), asyncio.get_running_loop()
    if announce is None or task is None:
        yield control
        return

    def stop(number: signal.Signals) -> None:
        log("signal", name=number.name, cancels=control.drain_requested)
        if control.drain_requested:
            announce("cancelling; what is finished is kept")
            task.cancel()
        else:
            announce("stopping after this step; once more to cancel it")
            control.request_drain()

    # Windows has no such handlers; there Ctrl-C cancels at once.
    with suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
    # They stay until the loop is closed: a second signal must not break into the closing of files.
    yield control
