"""What a person changes at the end of a level: drops survivors, edits them, adds prompts.

Every change is a decision with its author. Knows nothing of how prompts are shown or read.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig

from drpo.checkpoints.reader import UNDER_REVIEW, beam, waits_for_review
from drpo.checkpoints.runs import StoredRun
from drpo.checkpoints.store import RunStore
from drpo.graph.build import SearchGraph
from drpo.graph.errors import BadInput, RunPaused
from drpo.graph.state import SearchState
from drpo.graph.values import Decision, Rewrite

SYSTEM = "system"
"""The prompt that a person writes."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """To the beam of a run that waits for its review."""

    edits: Mapping[int, str]
    """New prompts in place of what the rewriter would write of these survivors."""
    drops: Sequence[int]
    """Survivors that are not rewritten."""
    adds: Sequence[str]
    """Prompts that join the next level, beside the rewrites of the best survivor."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.edits or self.drops or self.adds)


def author() -> str:
    """Who sits at this terminal; some containers know no name for their user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


NO_CHANGES = Changes(edits={}, drops=(), adds=())


def check(changes: Changes, run: StoredRun) -> None:
    """Raises BadInput for a run that waits for no review, and for a candidate that is no survivor.

    Also when nobody would be left.
    """
    if not changes:
        return
    if not waits_for_review(run.path):
        raise BadInput(f"run {run.id} does not wait for a review (search.review=true)")
    survivors = [node["candidate"] for node in beam(run.path)]
    for candidate in (*changes.edits, *changes.drops):
        if candidate not in survivors:
            named = ", ".join(str(each) for each in survivors)
            raise BadInput(f"candidate {candidate} is no survivor; there are {named}")
        if candidate in changes.edits and candidate in changes.drops:
            raise BadInput(f"candidate {candidate} is both edited and dropped")
    if not set(survivors) - set(changes.drops):
        raise BadInput("every survivor would be dropped; one has to be left")


async def hold_review(
    changes: Changes | None,
    *,
    graph: SearchGraph,
    config: RunnableConfig,
    store: RunStore,
    start: SearchState,
    rewrites: int,
) -> None:
    """Record and carry out what a person decides on a level that is finished, if one is.

    First recorded, in one transaction, then carried out, as often as it takes: a run that dies on
    the way knows what was decided. `changes` are None where nobody was shown the beam, which
    raises RunPaused; `rewrites` is how many the rewriter would write of each survivor.
    """
    state = await graph.aget_state(config)
    if not _at_end_of_level(state.next, state.values, start):
        return
    level, survivors = state.values["level"] - 1, state.values["beam"]
    decided = await store.reviewed(level)
    if not decided:
        if changes is None:
            raise RunPaused(UNDER_REVIEW)
        decided = await _record(changes, level, survivors, store, rewrites)
    update = {
        "beam": [each for each in survivors if decided.get(each) != "dropped"],
        "skips": [each for each in state.values["skips"] if decided.get(each) == "passed"],
    }
    if any(update[key] != state.values[key] for key in update):
        await graph.aupdate_state(config, update, as_node="advance")


def _at_end_of_level(
    following: Sequence[str], values: Mapping[str, Any], start: SearchState
) -> bool:
    """Whether the next level is not admitted yet; a fork's first one was decided by its parent."""
    next_up = bool(following) and {*following} <= {"rewrite", "admit"}
    return next_up and values["level"] > start["level"]


async def _record(
    changes: Changes, level: int, survivors: Sequence[int], store: RunStore, rewrites: int
) -> dict[int, str]:
    """What was decided on each survivor."""
    name = author()
    actions = dict.fromkeys(survivors, "passed")
    actions |= dict.fromkeys(changes.edits, "edited") | dict.fromkeys(changes.drops, "dropped")
    decisions = [
        Decision("review", level, each, -1, action, f"by {name}, a person")
        for each, action in actions.items()
    ]
    left = [each for each in survivors if actions[each] != "dropped"]
    texts = [(candidate, 0, text) for candidate, text in changes.edits.items()]
    first = 1 if left[0] in changes.edits else rewrites
    texts += [(left[0], item, text) for item, text in enumerate(changes.adds, first)]
    parents = {each.id: each for each in await store.candidates(left)}
    written = [
        (parent, Rewrite({**parents[parent].prompts, SYSTEM: text}, None, name, item))
        for parent, item, text in texts
    ]
    await store.add_review(decisions, written)
    return actions
