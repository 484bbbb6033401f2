"""Which instructions rewrites added where an aspect was low, and what it scored under them.

It counts what happened and claims no cause: a child answers other queries than its parent, so the
fair comparison is with its siblings, who answered the same ones without the instruction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from drpo.analysis.grouping import grouped, in_turn, stems, telling
from drpo.analysis.sentences import sentences
from drpo.checkpoints.scores import Node
from drpo.graph.values import ROOT, mean

MOST_GROUPED = 100
"""Different sentences that are grouped for one aspect."""
MOST_GROUPS = 3
"""Kinds of instructions that are told of one aspect."""

Means = Mapping[int, Mapping[str, float]]
"""By candidate, then aspect: its mean score, 1-5."""


class BeforeAfter(TypedDict):
    """Some rewrites of parents that were low in an aspect."""

    children: int
    parents: int
    scored: int
    """Children whose own queries were judged by the aspect as well."""
    before: float | None
    """Mean of their parents in it, 1-5; None where none is scored."""
    after: float | None
    """Mean of these children."""


class Lead(TypedDict):
    """How far some rewrites are ahead of siblings that were not told so."""

    lead: float | None
    """Mean difference, -4 to 4; None where there is no such sibling."""
    compared: int
    """Children that have one."""


class Instruction(BeforeAfter, Lead):
    """Sentences that say much the same, which rewrites added."""

    text: str
    """The one that is most like the others."""
    sentences: int
    in_best: bool
    """Whether one of them stands in the best prompt."""


class Answered(BeforeAfter):
    """All rewrites of parents that were low in an aspect, and what they added."""

    sentences: int
    """Different ones that were added."""
    grouped: int
    """... that were looked at."""
    instructions: list[Instruction]
    """Those closest to the aspect in words first."""


def answered(
    nodes: Mapping[int, Node],
    texts: Mapping[str, str],
    means: Means,
    *,
    low: float,
    best: Mapping[str, str],
    said: Mapping[str, Sequence[str]],
) -> dict[str, Answered]:
    """By aspect, the rewrites of parents that scored below `low` in it.

    `texts` are by hash, `best` the prompts that the run found; `said`, by aspect, rationales of low
    scores: the instructions that are told speak of what they do, as far as words show it.
    """
    words = telling(said)
    cut = {name: sentences(body) for name, body in texts.items()}
    stays = {each for text in best.values() for each in sentences(text)}
    cases: dict[str, _Case] = {}
    for node in nodes.values():
        if node.origin != "rewrite" or node.parent is None:
            continue
        lows = [name for name, score in means.get(node.parent, {}).items() if score < low]
        added = _added(node, nodes[node.parent], cut) if lows else ()
        for name in lows:
            case = cases.setdefault(name, _Case(name, nodes, means, stays, words.get(name, {})))
            case.added[node.id] = added
    return {name: case.told() for name, case in cases.items()}


def _added(child: Node, parent: Node, cut: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """What a rewrite says and its parent does not, each once."""
    before = {each for name in parent.prompts.values() for each in cut[name]}
    said = (each for name in child.prompts.values() for each in cut[name])
    return [each for each in dict.fromkeys(said) if each not in before]


@dataclass(frozen=True, slots=True)
class _Case:
    """One aspect, and the rewrites whose parents were low in it."""

    aspect: str
    nodes: Mapping[int, Node]
    means: Means
    stays: Collection[str]
    """Sentences of the run's best prompt."""
    telling: Mapping[str, float]
    """How much a stem tells of the aspect."""
    added: dict[int, Sequence[str]] = field(default_factory=dict)
    """By child."""

    def told(self) -> Answered:
        """All rewrites together, and the instructions that speak most of the aspect."""
        children: dict[str, list[int]] = {}
        for child, added in self.added.items():
            for text in added:
                children.setdefault(text, []).append(child)
        texts = list(children)
        parents = [self._parent(children[text][0]) for text in texts]
        taken = in_turn(parents, MOST_GROUPED)
        groups = []
        for group in grouped([texts[at] for at in taken], [parents[at] for at in taken]):
            members = [texts[taken[at]] for at in group.members]
            mine = list(dict.fromkeys(child for text in members for child in children[text]))
            groups.append((texts[taken[group.central]], members, mine))
        near = {text: self._nearness(text) for text, *_ in groups}
        groups = [each for each in groups if near[each[0]] > 0]
        groups.sort(key=lambda each: (-near[each[0]], -len(each[2])))
        return {
            **self._figures(self.added),
            "sentences": len(texts),
            "grouped": len(taken),
            "instructions": [
                {
                    "text": text,
                    "sentences": len(members),
                    "in_best": any(each in self.stays for each in members),
                    **self._figures(mine),
                    **self._lead(mine),
                }
                for text, members, mine in groups[:MOST_GROUPS]
            ],
        }

    def _nearness(self, text: str) -> float:
        found = stems(text)
        return sum(self.telling.get(stem, 0.0) for stem in sorted(found)) / math.sqrt(
            len(found) or 1
        )

    def _parent(self, child: int) -> int:
        parent = self.nodes[child].parent
        return ROOT if parent is None else parent

    def _of(self, candidate: int) -> float | None:
        """What it scored in the aspect."""
        return self.means.get(candidate, {}).get(self.aspect)

    def _figures(self, children: Collection[int]) -> BeforeAfter:
        """Before and after, of those whose own queries were judged by the aspect as well."""
        both = [
            (before, after)
            for child in children
            if (before := self._of(self._parent(child))) is not None
            and (after := self._of(child)) is not None
        ]
        return {
            "children": len(children),
            "parents": len({self._parent(child) for child in children}),
            "scored": len(both),
            "before": mean(before for before, _ in both),
            "after": mean(after for _, after in both),
        }

    def _lead(self, group: Collection[int]) -> Lead:
        """Mean lead over those siblings of the same level that were not told so."""
        inside = set(group)
        beside: dict[tuple[int, int], list[float]] = {}
        for child in self.added:
            said = self._of(child)
            if child not in inside and said is not None:
                beside.setdefault(self._family(child), []).append(said)
        leads = [
            said - others
            for child in group
            if (said := self._of(child)) is not None
            and (others := mean(beside.get(self._family(child), ()))) is not None
        ]
        return {"lead": mean(leads), "compared": len(leads)}

    def _family(self, child: int) -> tuple[int, int]:
        return (self._parent(child), self.nodes[child].level)
