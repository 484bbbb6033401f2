"""What a person changes at the end of a level: drops survivors, edits them, adds prompts.

Every change is a decision with its author. Knows nothing of how prompts are shown or read.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig

from drpo.checkpoints.reader import beam, waits_for_review
from drpo.checkpoints.runs import StoredRun
from drpo.checkpoints.store import RunStore
from drpo.graph.build import SearchGraph
from drpo.graph.errors import BadInput
from drpo.graph.values import Decision

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
    if not set(survivors) - set(changes.drops):
        raise BadInput("every survivor would be dropped; one has to be left")


async def apply(
    changes: Changes,
    *,
    graph: SearchGraph,
    config: RunnableConfig,
    store: RunStore,
    rewrites: int,
) -> None:
    """Checked changes, before the search goes on.

    `rewrites` is how many the rewriter would write of each survivor.
    """
    values = (await graph.aget_state(config)).values
    skips, level = values["skips"], values["level"]
    left = [each for each in values["beam"] if each not in changes.drops]
    name = author()
    decisions = [
        Decision("review", level - 1, each, -1, "dropped", f"by {name}, a person")
        for each in changes.drops
    ]
    written = [(candidate, 0, text) for candidate, text in changes.edits.items()]
    first = 1 if left[0] in changes.edits else rewrites
    written += [(left[0], item, text) for item, text in enumerate(changes.adds, first)]
    parents = {each.id: each for each in await store.candidates(left)}
    for parent, item, text in written:
        if parent in parents:
            prompts = {**parents[parent].prompts, SYSTEM: text}
            await store.add_written(parent, item, prompts, name)
    await store.decide(decisions)
    kept = [each for each in skips if each in left and each not in changes.edits]
    await graph.aupdate_state(config, {"beam": left, "skips": kept}, as_node="advance")
