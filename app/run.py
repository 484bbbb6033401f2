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

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

import drpo
from drpo.again import ask_again
from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.reader import (
    FAILURES,
    UNDER_REVIEW,
    calls_made,
    paused_by_failures,
    waits_for_review,
)
from drpo.checkpoints.runs import (
    HEARTBEAT_S,
    Fingerprint,
    StoredRun,
    create_run,
    hold_against,
    owning,
    reading,
    remove_run,
)
from drpo.checkpoints.store import RunStore, open_store
from drpo.conf.schema import ModelsSettings, Settings
from drpo.graph.build import build_evaluation, build_search, fingerprint, initial_state
from drpo.graph.context import Caller, Context, Retriever, Store
from drpo.graph.errors import BadInput, ProviderRefused, RunFailed, RunPaused, TooManyFailures
from drpo.graph.order import SeededOrder
from drpo.graph.strategies import STRATEGIES
from drpo.graph.values import ROLES, Example, Query, Role
from drpo.models.caller import LedgeredCaller
from drpo.models.ledger import Usage
from drpo.models.prices import price_of
from drpo.models.provider import Provider
from drpo.models.providers import check_providers, open_providers
from drpo.models.retrieval import ExampleRetriever, check_embedder
from drpo.models.sandbox.world import world_sha256
from drpo.nodes.prompts import JinjaTemplates
from drpo.nodes.target import ChatTarget
from drpo.review import NO_CHANGES, Changes, hold_review

GRACE_S = 3.0
"""How long calls in flight may still land after the run was cancelled."""
RECURSION_LIMIT = 1_000_000
"""Supersteps; the search ends by its own level limit."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a running search stands."""

    run_id: str
    levels: int
    """Levels finished so far, the root's included."""
    level_limit: int
    beam: Sequence[tuple[int, float | None]]
    """Id and path value of the survivors, best first; the root has no path value."""
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
    settings: Settings,
    queries: Sequence[Query],
    folder: Path,
    estimate: Mapping[str, Any] | None = None,
    examples: Sequence[Example] = (),
) -> StoredRun:
    """A run in its own file, not started yet; `estimate` is kept with it. Raises BadInput."""
    order_of(settings, queries)
    check_settings(settings)
    check_providers(settings.models)
    if examples:
        check_embedder(settings.retrieval.embedder)
    return create_run(
        folder,
        settings=settings.model_dump_json(),
        fingerprint=current_fingerprint(settings),
        queries=queries,
        version=drpo.__version__,
        estimate=estimate,
        examples=examples,
    )


def check_settings(settings: Settings) -> None:
    """Raises BadInput for settings that fit together but not the world."""
    check_root(settings)
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
    hold_against(run, current_fingerprint(settings))
    check_settings(settings)
    async with providers(settings.models) as opened:
        with owning(run.path, most_recoveries=settings.storage.recoveries, settings=run.settings):
            async with open_store(
                run.path, full_sync=settings.storage.full_sync, reuse=settings.ledger.reuse
            ) as store:
                session = _Search(run, settings, opened, store, observer, decided, failed=failed)
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


def current_fingerprint(settings: Settings) -> Fingerprint:
    """What a run made now relies on."""
    roles = [getattr(settings.models, role) for role in ROLES]
    simulated = any(role.provider == "sandbox" for role in roles)
    world = {"sandbox world": {"world.toml": world_sha256()}} if simulated else {}
    return fingerprint() | world | {"templates": JinjaTemplates(settings.prompts.folder).hashes()}


def order_of(settings: Settings, queries: Sequence[Query]) -> SeededOrder:
    """The order of the queries. Raises BadInput when there are too few for one level."""
    wanted = settings.search.queries_per_level
    if len(queries) < wanted:
        raise BadInput(
            f"search.queries_per_level={wanted}: there are only {len(queries)} queries; "
            f"allowed are 1 to {len(queries)}"
        )
    return SeededOrder(
        queries,
        per_level=wanted,
        seed=settings.seed,
        shuffle=settings.data.shuffle,
        recycle=settings.search.recycle_queries,
    )


def context_for(
    settings: Settings,
    queries: Sequence[Query],
    caller: Caller,
    store: Store,
    retriever: Retriever | None = None,
) -> Context:
    """What the nodes of a search work with, the target being a chat model."""
    templates = JinjaTemplates(settings.prompts.folder)
    return Context(
        root=settings.root,
        task=settings.task,
        search=settings.search,
        rewards=settings.rewards,
        judge=settings.judge,
        strategy=STRATEGIES[settings.search.strategy],
        order=order_of(settings, queries),
        caller=caller,
        target=ChatTarget(
            caller,
            templates,
            settings.models.target.format,
            accept_truncated=settings.models.target.accept_truncated,
            retriever=retriever,
        ),
        store=store,
        templates=templates,
        evaluation=build_evaluation(),
        most_failures=settings.budget.failures,
    )


class _Search:
    """One session of one run."""

    def __init__(
        self,
        run: StoredRun,
        settings: Settings,
        providers: Mapping[Role, Provider],
        store: RunStore,
        observer: Observer | None,
        decided: Changes | None,
        *,
        failed: bool,
    ) -> None:
        self._failed = failed
        self._decided = decided
        self._run = run
        self._settings = settings
        self._providers = providers
        self._store = store
        self._observer = observer
        self._began = time.monotonic()
        self._before = 0.0
        self._first_levels: int | None = None

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
        )
        try:
            with _draining(announce) as control:
                async with self._beating(announce):
                    await self._walk(caller, control)
            await self._store.finish(self._run.id)
            status = "done"
        except GraphDrained:
            status, reason = "paused", "stopped on request"
            raise RunPaused(reason) from None
        except TooManyFailures as error:
            status, reason = "paused", f"{FAILURES}: {error}"
            raise
        except RunPaused as error:
            status, reason = "paused", str(error)
            raise
        except asyncio.CancelledError:
            status, reason, grace_s = "paused", "cancelled", GRACE_S
            raise
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            try:
                await caller.aclose(grace_s)
            finally:
                await self._store.set_status(status, reason or None, self._seconds())

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
        graph, review = build_search(self._store.saver), self._settings.search.review
        config: RunnableConfig = {
            "configurable": {"thread_id": self._run.id},
            "recursion_limit": RECURSION_LIMIT,
        }
        retriever = ExampleRetriever(self._run.examples, self._settings.retrieval, self._store)
        # A wrong key or model shows before the first paid call.
        await retriever.prepare()
        context = context_for(self._settings, self._run.queries, caller, self._store, retriever)
        begun = await self._store.saver.aget_tuple(config)
        start = self._run.start or initial_state(self._settings.search)
        values = begun.checkpoint["channel_values"] if begun else start
        limit = values.get("level_limit", start["level_limit"])
        if review:
            await hold_review(
                self._decided,
                graph=graph,
                config=config,
                store=self._store,
                start=start,
                rewrites=self._settings.search.rewrites,
            )
        if self._failed:
            await ask_again(graph=graph, config=config, store=self._store, context=context)
        await self._show(limit, caller.usage)
        answered = "answer" in values
        async for update in graph.astream(
            None if begun else start,
            config,
            context=context,
            stream_mode="updates",
            durability="sync",
            control=control,
            interrupt_after=["advance"] if review else None,
        ):
            if "advance" in update:
                answered = "answer" in update["advance"]
                limit = update["advance"].get("level_limit", limit)
                await self._show(limit, caller.usage)
        if review and not answered:
            raise RunPaused(UNDER_REVIEW)

    async def _show(self, limit: int, usage: Usage) -> None:
        if self._observer is None:
            return
        levels, beam = await self._store.progress()
        seconds = time.monotonic() - self._began
        if self._first_levels is None:
            self._first_levels = levels
        finished = levels - self._first_levels
        left = seconds / finished * max(0, limit - levels) if finished else None
        self._observer(Snapshot(self._run.id, levels, limit, beam, usage, seconds, left))


@contextmanager
def _draining(announce: Callable[[str], None] | None) -> Iterator[RunControl]:
    """The run's control; signals ask it to drain, and then cancel."""
    control, task, loop = RunControl(), asyncio.current_task(), asyncio.get_running_loop()
    if announce is None or task is None:
        yield control
        return

    def stop() -> None:
        if control.drain_requested:
            announce("cancelling; what is finished is kept")
            task.cancel()
        else:
            announce("stopping after this step; once more to cancel it")
            control.request_drain()

    # Windows has no such handlers; there Ctrl-C cancels at once.
    with suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    # They stay until the loop is closed: a second signal must not break into the closing of files.
    yield control
