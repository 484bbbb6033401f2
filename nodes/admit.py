"""Lets rewrites into the search: guards them, numbers them, stores them.

Order is beam order, then rewrite order; it decides ties, so it never depends on which call came
back first. Does not evaluate anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langgraph.runtime import Runtime

from drpo.graph.context import Context
from drpo.graph.state import Rewritten, SearchState, SearchUpdate
from drpo.graph.values import Candidate, Decision, Origin, Prompts
from drpo.nodes.guards import Situation, identity, refusal


async def admit(state: SearchState, runtime: Runtime[Context]) -> SearchUpdate:
    """The candidates of this level."""
    context = runtime.context
    if not state["beam"]:
        root = Candidate(0, 0, None, context.root, "root")
        await context.store.admit([(root, None)], [])
        return {"candidates": [0], "next_candidate": 1}
    rewritten = state.get("rewritten", ())
    hashes = sorted({text for item in rewritten for text in item["prompts"].values()})
    entry = _Entry(state, context, await context.store.texts(hashes))
    parents = await context.store.candidates(state["beam"])
    for parent in sorted(parents, key=lambda found: state["beam"].index(found.id)):
        if parent.id in state["skips"]:
            entry.repeat(parent, "skip")
        else:
            mine = [item for item in rewritten if item["parent"] == parent.id]
            entry.rewrites(parent, sorted(mine, key=lambda item: item["index"]))
    await context.store.admit(entry.admitted, entry.refused)
    ids = [candidate.id for candidate, _ in entry.admitted]
    return {"candidates": ids, "next_candidate": ids[-1] + 1}


class _Entry:
    """The door of one level: who came in so far, and who did not, and why."""

    def __init__(self, state: SearchState, context: Context, texts: Mapping[str, str]) -> None:
        self.admitted: list[tuple[Candidate, Rewritten | None]] = []
        self.refused: list[Decision] = []
        self._level = state["level"]
        self._first = state["next_candidate"]
        self._context = context
        self._texts = texts

    def repeat(self, parent: Candidate, origin: Origin) -> None:
        """The parent once more, unchanged."""
        self._add(parent, parent.prompts, origin, None)

    def rewrites(self, parent: Candidate, rewritten: Sequence[Rewritten]) -> None:
        """Those that no guard refuses; with none, the parent is carried on (FAULTS M7)."""
        before = len(self.admitted)
        for item in rewritten:
            prompts = {name: self._texts[text] for name, text in item["prompts"].items()}
            reason = self._refusal(prompts, parent)
            if reason is None:
                self._add(parent, prompts, "rewrite", item)
            else:
                text = "\n\n".join(prompts.values())
                self._decide(parent, item["index"], "refused", reason, text)
        if len(self.admitted) == before:
            self._decide(parent, -1, "carried", "no rewrite of it can be used")
            self.repeat(parent, "carried")

    def _refusal(self, prompts: Prompts, parent: Candidate) -> str | None:
        context = self._context
        if not context.search.guards:
            return None
        situation = Situation(
            root=context.root,
            parent=parent.prompts,
            siblings={identity(other.prompts) for other, item in self.admitted if item},
            queries=context.order.queries,
            locked=context.task.locked,
            token_cap=context.search.prompt_tokens,
        )
        return refusal(prompts, situation)

    def _add(
        self, parent: Candidate, prompts: Prompts, origin: Origin, item: Rewritten | None
    ) -> None:
        ordinal = self._first + len(self.admitted)
        candidate = Candidate(ordinal, self._level, parent.id, prompts, origin)
        self.admitted.append((candidate, item))

    def _decide(
        self, parent: Candidate, index: int, action: str, reason: str, text: str | None = None
    ) -> None:
        self.refused.append(Decision("admit", self._level, parent.id, index, action, reason, text))
