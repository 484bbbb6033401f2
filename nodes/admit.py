"""Lets rewrites into the search: guards them, numbers them, stores them.

Order is beam order, then rewrite order; it decides ties, so it never depends on which call came
back first. Does not evaluate anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.runtime import Runtime

from drpo.graph.context import Context
from drpo.graph.state import SearchState, SearchUpdate
from drpo.graph.values import Candidate, Decision, Origin, Prompts, Rewrite
from drpo.nodes.failures import hold_to_limit
from drpo.nodes.guards import GUARDS, GUARDS_OF_ANSWERS, Situation, identity, refusal


async def admit(state: SearchState, runtime: Runtime[Context]) -> SearchUpdate:
    """The candidates of this level."""
    context, door = runtime.context, _Door(state, runtime.context)
    if not state["beam"]:
        root = state["next_candidate"]
        door.admitted.append(Candidate(root, 0, None, context.root, "root"))
    parents = {parent.id: parent for parent in await context.store.candidates(state["beam"])}
    failures: list[str | None] = []
    for parent in (parents[survivor] for survivor in state["beam"]):
        first = parent.first_item(state["level"], context.search.rewrites)
        rewrites = await context.store.rewrites(parent.id, first)
        # The first time the parent is carried on (FAULTS M7).
        again = parent.origin == "carried"
        failures += [said.failure if again else None for said in rewrites]
        if parent.id in state["skips"]:
            door.repeat(parent, "skip")
            rewrites = [said for said in rewrites if said.author]
        if rewrites or parent.id not in state["skips"]:
            door.rewrites(parent, rewrites)
    hold_to_limit("rewrites", state["level"], failures, context.most_failures)
    await context.store.admit(door.admitted, door.decisions)
    first = state["next_candidate"]
    return {"first_candidate": first, "next_candidate": first + len(door.admitted)}


class _Door:
    """Of one level: who came in so far, who did not, and why."""

    def __init__(self, state: SearchState, context: Context) -> None:
        self.admitted: list[Candidate] = []
        self.decisions: list[Decision] = []
        self._level = state["level"]
        self._first = state["next_candidate"]
        self._context = context

    def repeat(self, parent: Candidate, origin: Origin) -> None:
        """The parent once more, unchanged."""
        self._add(parent, parent.prompts, origin)

    def rewrites(self, parent: Candidate, rewrites: Sequence[Rewrite]) -> None:
        """Those that no guard refuses; with none, the parent is carried on (FAULTS M7)."""
        before = len(self.admitted)
        for said in rewrites:
            if said.prompts is None:
                self._decide(parent, said.item, "unreadable", said.failure or "")
                continue
            reason = None if said.author else self._refusal(said.prompts, parent)
            if reason is None:
                self._add(parent, said.prompts, "rewrite", said.item, said.author)
            else:
                self._decide(parent, said.item, "refused", reason)
        if len(self.admitted) == before:
            self._decide(parent, -1, "carried", "no rewrite of it can be used")
            self.repeat(parent, "carried")

    def _refusal(self, prompts: Prompts, parent: Candidate) -> str | None:
        context = self._context
        if not context.search.guards:
            return None
        queries, guards = context.order.queries, GUARDS
        if context.subject == "answer":
            queries = [queries[at] for at in context.order.at(self._level)]
            guards = GUARDS_OF_ANSWERS
        situation = Situation(
            root=context.root,
            parent=parent.prompts,
            siblings={identity(each.prompts) for each in self.admitted if each.origin == "rewrite"},
            queries=queries,
            locked=context.task.locked,
            token_cap=context.search.max_prompt_tokens,
        )
        return refusal(prompts, situation, guards)

    def _add(
        self,
        parent: Candidate,
        prompts: Prompts,
        origin: Origin,
        item: int | None = None,
        author: str | None = None,
    ) -> None:
        ordinal = self._first + len(self.admitted)
        candidate = Candidate(ordinal, self._level, parent.id, prompts, origin, item)
        self.admitted.append(candidate)
        if author is not None:
            self._decide(candidate, -1, "written", f"by {author}, a person")

    def _decide(self, about: Candidate, item: int, action: str, reason: str) -> None:
        self.decisions.append(Decision("admit", self._level, about.id, item, action, reason))
