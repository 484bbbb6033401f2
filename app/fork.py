"""What `drpo fork` does: another search out of a run, from one of its levels or candidates on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import drpo
from drpo.checkpoints.forks import Beginning, fork_run
from drpo.checkpoints.reader import levels_finished, tree
from drpo.checkpoints.runs import StoredRun, load_run
from drpo.conf.schema import LedgerSettings, Settings
from drpo.graph.errors import BadInput
from drpo.graph.order import SeededOrder
from drpo.graph.values import ROOT
from drpo.parts import order_of
from drpo.prompt_files import read_prompt
from drpo.review import SYSTEM, author
from drpo.run import check_settings, current_fingerprint
from drpo.settings import forked_settings, stored_settings, validated


def fork(
    path: Path,
    *,
    level: int | None = None,
    candidate: int | None = None,
    edit: Path | None = None,
    overrides: Sequence[str] = (),
) -> StoredRun:
    """A run that goes on from there, not started yet; without a place, from the last level on.

    Raises BadInput for a place that there is not, or settings that cannot be.
    """
    parent = load_run(path)
    if parent.kind != "search":
        raise BadInput(
            f"run {parent.id} is more than a search for a prompt; only such a search can be forked"
        )
    before = stored_settings(parent.id, parent.settings)
    # What its parent took over from another run is in its ledger already.
    own = before.model_copy(update={"ledger": LedgerSettings()})
    settings = forked_settings(own, overrides)
    place = _place(path, level, candidate, edit)
    if place is not None and place.candidate == ROOT and place.prompts is not None:
        values = settings.model_dump(mode="json")
        settings = validated(values | {"root": dict(place.prompts)})
    check_settings(settings)
    _check_place(place, before, settings, order_of(settings, parent.queries))
    return fork_run(
        parent,
        place,
        settings=settings.model_dump_json(),
        level_limit=(settings.search.levels, settings.search.max_extension),
        fingerprint=current_fingerprint(settings),
        version=drpo.__version__,
    )


def _check_place(
    place: Beginning | None, before: Settings, after: Settings, order: SeededOrder
) -> None:
    """Raises BadInput for settings that do not fit what the fork keeps of its parent."""
    level = 0 if place is None else place.level
    if order.levels is not None and level >= order.levels:
        raise BadInput(f"the queries last for {order.levels} levels; level {level} is beyond them")
    if level > 0 and after.root != before.root:
        raise BadInput("root can change only in a fork with --level 0")
    numbered_on = "monte_carlo" in (before.search.strategy, after.search.strategy)
    if level > 0 and numbered_on and after.search.rewrites != before.search.rewrites:
        raise BadInput("search.rewrites of monte_carlo can change only in a fork with --level 0")


def _place(
    path: Path, level: int | None, candidate: int | None, edit: Path | None
) -> Beginning | None:
    if level is not None and candidate is not None:
        raise BadInput("--level or --candidate, not both: a candidate has its level")
    if edit is not None and candidate is None:
        raise BadInput("--edit needs --candidate: whose prompt is replaced")
    last = levels_finished(path) - 1
    if candidate is not None:
        return _at_candidate(path, candidate, last, edit)
    if level is None and last < 0:
        return None
    at = last if level is None else level
    _check_level(path, at, last)
    return Beginning(level=at)


def _at_candidate(path: Path, candidate: int, last: int, edit: Path | None) -> Beginning:
    nodes = tree(path)
    if not 0 <= candidate < len(nodes):
        raise BadInput(f"run {path.stem} has no candidate {candidate}: it has {len(nodes)}")
    node = nodes[candidate]
    _check_level(path, node["level"], last)
    prompts = None if edit is None else {**node["prompts"], SYSTEM: read_prompt(edit)}
    return Beginning(level=node["level"], candidate=candidate, prompts=prompts, author=author())


def _check_level(path: Path, level: int, last: int) -> None:
    if not 0 <= level <= last:
        has = "no finished level" if last < 0 else f"the finished levels 0 to {last}"
        raise BadInput(f"run {path.stem} has {has}; level {level} is none of them")
