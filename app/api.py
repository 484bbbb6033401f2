"""Searches from Python: the same runs, files and errors as on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from drpo.checkpoints.reader import status, summary
from drpo.checkpoints.runs import StoredRun, find_run, load_run
from drpo.conf.schema import Settings
from drpo.config_file import own_words
from drpo.estimates import Estimate, estimate_of
from drpo.graph.values import Example, Query
from drpo.kinds import plan_of
from drpo.models.providers import open_providers
from drpo.review import NO_CHANGES, Changes, check
from drpo.run import Observer, SearchFunction, first_search, new_run, search
from drpo.settings import compose_settings, resumed_settings, stored_settings

T = TypeVar("T")

DEFAULT_FOLDER = Path("runs")


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished search found."""

    run_id: str
    path: Path
    """The run's file."""
    prompts: Mapping[str, str]
    """The best prompts, by name; a chat model has one, `system`."""
    path_value: float | None
    """Mean reward on the way there, 1-5; None where nothing was scored."""
    summary: Mapping[str, Any]
    """All that `drpo show --json` tells."""
    examples: tuple[Example, ...] = ()
    """That the run optimized, or was given."""


async def optimize(
    *overrides: str,
    config: str | Path | None = None,
    queries: Iterable[str | Query] | None = None,
    runs: str | Path = DEFAULT_FOLDER,
    observer: Observer | None = None,
) -> Result:
    """Run one search to its end.

    `overrides` are Hydra's, e.g. `"search=paper"`, `"models.target.model=gpt-4o"`. `config` is a
    file as `drpo init` writes it; from Python none is read unasked. `queries` stand in for
    `data.path`. Raises BadInput before anything is written, RunPaused where the run stopped
    in good order (`resume` goes on), RunFailed where it cannot go on.
    """
    return await _new(overrides, config, queries, Path(runs), observer, aligns=False)


async def align(
    *overrides: str,
    config: str | Path | None = None,
    queries: Iterable[str | Query] | None = None,
    runs: str | Path = DEFAULT_FOLDER,
    observer: Observer | None = None,
) -> Result:
    """Optimize examples and prompt, and test whether the gain is real, as `drpo align` does.

    Arguments and errors are those of `optimize`. The result's prompts are the ones to use: the
    root's where no real gain was found; `summary["findings"]` has what was measured.
    """
    return await _new(overrides, config, queries, Path(runs), observer, aligns=True)


async def _new(
    overrides: Sequence[str],
    config: str | Path | None,
    queries: Iterable[str | Query] | None,
    runs: Path,
    observer: Observer | None,
    *,
    aligns: bool,
) -> Result:
    settings = await asyncio.to_thread(_composed, config, overrides)
    plan = plan_of(settings, aligns=aligns, given=queries)
    expected = asdict(estimate_of(settings, plan))
    run = new_run(settings, plan, runs, expected)
    return await _finish(run, observer, first_search)


async def resume(
    run: str | None = None,
    *overrides: str,
    runs: str | Path = DEFAULT_FOLDER,
    observer: Observer | None = None,
    changes: Changes = NO_CHANGES,
    trusted: Collection[str] = (),
) -> Result:
    """Go on with the run whose id begins with `run`, or the newest.

    `changes` are a person's, to a beam under review (`search.review=true`). `overrides` may change
    `budget.*`, `concurrency`, `storage.*`, `ledger.*` and `telemetry.*`. `trusted` are the classes
    that a run on models of LangChain may import; `optimize` was told of them. Raises as `optimize`
    does.
    """
    stored = resumable(find_run(Path(runs), run), overrides)
    return await _finish(stored, observer, going_on(stored, changes, trusted))


def estimate(
    *overrides: str,
    config: str | Path | None = None,
    queries: Iterable[str | Query] | None = None,
    aligns: bool = False,
) -> Estimate:
    """What `optimize` would take: calls, tokens, dollars, seconds, each low, expected and high.

    With `aligns`, what `align` would take. Asks no model, needs no key and writes nothing. Raises
    BadInput as `optimize` does.
    """
    settings = _composed(config, overrides)
    return estimate_of(settings, plan_of(settings, aligns=aligns, given=queries))


def optimize_blocking(*overrides: str, **options: Any) -> Result:
    """`optimize` for code without an event loop; inside one it blocks that loop."""
    return _blocking(optimize(*overrides, **options))


def align_blocking(*overrides: str, **options: Any) -> Result:
    """`align` for code without an event loop; inside one it blocks that loop."""
    return _blocking(align(*overrides, **options))


def resume_blocking(run: str | None = None, *overrides: str, **options: Any) -> Result:
    """`resume` for code without an event loop; inside one it blocks that loop."""
    return _blocking(resume(run, *overrides, **options))


def resumable(path: Path, overrides: Sequence[str]) -> StoredRun:
    """A stored run with the few settings changed that may change. Raises BadInput."""
    stored = load_run(path)
    settings = resumed_settings(stored_settings(stored.id, stored.settings), overrides)
    return replace(stored, settings=settings.model_dump_json())


def _composed(config: str | Path | None, overrides: Sequence[str]) -> Settings:
    own = [] if config is None else own_words(Path(config))
    return compose_settings([*own, *overrides])


def going_on(run: StoredRun, changes: Changes, trusted: Collection[str]) -> SearchFunction:
    """`search` of a stored run, with a person's changes. Raises BadInput for what cannot change."""
    check(changes, run)
    return partial(search, providers=partial(open_providers, trusted=trusted), changes=changes)


async def _finish(
    run: StoredRun,
    observer: Observer | None,
    begin: SearchFunction = search,
) -> Result:
    if status(run.path) != "done":
        await begin(run, observer)
    told = summary(run.path)
    best = told["best"] or {"prompts": {}, "path_value": None}
    prompts = best["prompts"] if told["deployed"] is None else told["deployed"]["prompts"]
    shown = tuple(Example(each["query"], each["answer"]) for each in told["examples"])
    return Result(run.id, run.path, prompts, best["path_value"], told, shown)


def _blocking(work: Coroutine[Any, Any, T]) -> T:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1, thread_name_prefix="drpo") as thread:
        return thread.submit(asyncio.run, work).result()
