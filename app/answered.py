"""Which instructions rewrites brought where an aspect was low, and what it scored under them.

It counts what happened and claims no cause: a child answers other queries than its parent, so the
fair comparison is with its siblings, who answered the same ones without the instruction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from drpo.checkpoints.scores import Node
from drpo.graph.values import mean
from drpo.grouping import grouped, in_turn
from drpo.sentences import bare, sentences

MOST_GROUPED = 150
"""Different sentences that are grouped for one aspect."""
MOST_GROUPS = 3
"""Kinds of instructions that are told of one aspect."""

Means = Mapping[int, Mapping[str, float]]
"""By candidate, then aspect: its mean score, 1-5."""


@dataclass(frozen=True, slots=True)
class _Brought:
    """A sentence that a rewrite has and its parent has not."""

    text: str
    children: tuple[int, ...]


def answered(
    nodes: Mapping[int, Node],
    texts: Mapping[str, str],
    means: Means,
    *,
    low: float,
    best: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """By aspect, the rewrites of parents that scored below `low` in it.

    `texts` are by hash, `best` the prompts that the run found.
    """
    children: dict[str, list[Node]] = {}
    for node in nodes.values():
        if node.origin == "rewrite" and node.parent is not None:
            for aspect, score in means.get(node.parent, {}).items():
                if score < low:
                    children.setdefault(aspect, []).append(node)
    cut = {name: frozenset(map(bare, sentences(body))) for name, body in texts.items()}
    stays = {bare(each) for text in best.values() for each in sentences(text)}
    return {
        aspect: _told(_Case(aspect, mine, nodes, means), texts, cut, stays)
        for aspect, mine in children.items()
    }


@dataclass(frozen=True, slots=True)
class _Case:
    """One aspect, and the rewrites whose parents were low in it."""

    aspect: str
    children: Sequence[Node]
    nodes: Mapping[int, Node]
    means: Means

    def of(self, candidate: int | None) -> float | None:
        """What a candidate scored in it."""
        return None if candidate is None else self.means.get(candidate, {}).get(self.aspect)

    def figures(self, among: Iterable[Node]) -> dict[str, Any]:
        """Before and after, of those whose own queries were judged by the aspect as well."""
        mine = list(among)
        both = [each for each in mine if self.of(each.id) is not None]
        return {
            "children": len(mine),
            "parents": len({each.parent for each in mine}),
            "scored": len(both),
            "before": mean(said for each in both if (said := self.of(each.parent)) is not None),
            "after": mean(said for each in both if (said := self.of(each.id)) is not None),
        }

    def lead(self, group: Sequence[Node]) -> dict[str, Any]:
        """Over siblings of the same level that are not of the group."""
        inside = {each.id for each in group}
        families: dict[tuple[int | None, int], list[float]] = {}
        for each in self.children:
            said = self.of(each.id)
            if each.id not in inside and said is not None:
                families.setdefault((each.parent, each.level), []).append(said)
        leads = []
        for each in group:
            beside, said = mean(families.get((each.parent, each.level), ())), self.of(each.id)
            if beside is not None and said is not None:
                leads.append(said - beside)
        return {"lead": mean(leads), "compared": len(leads)}


def _told(
    case: _Case,
    texts: Mapping[str, str],
    cut: Mapping[str, frozenset[str]],
    stays: Iterable[str],
) -> dict[str, Any]:
    brought = _brought(case, texts, cut)
    parents = [case.nodes[each.children[0]].parent or 0 for each in brought]
    taken = in_turn(parents, MOST_GROUPED)
    some = [brought[at] for at in taken]
    groups = [
        [some[group.central], *(some[at] for at in group.members if at != group.central)]
        for group in grouped([each.text for each in some], [parents[at] for at in taken])
    ]
    told = [_group(case, each, stays) for each in groups]
    told.sort(key=lambda each: (-each["parents"], -each["children"]))
    return case.figures(case.children) | {
        "sentences": len(brought),
        "grouped": len(some),
        "instructions": told[:MOST_GROUPS],
    }


def _group(case: _Case, group: Sequence[_Brought], stays: Iterable[str]) -> dict[str, Any]:
    """The most central of its sentences comes first."""
    ids = dict.fromkeys(child for each in group for child in each.children)
    children = [case.nodes[each] for each in ids]
    return (
        {"text": group[0].text, "sentences": len(group)}
        | case.figures(children)
        | case.lead(children)
        | {"in_best": any(bare(each.text) in stays for each in group)}
    )


def _brought(
    case: _Case, texts: Mapping[str, str], cut: Mapping[str, frozenset[str]]
) -> list[_Brought]:
    """Each different sentence once, in order of the first child that has it."""
    found: dict[str, _Brought] = {}
    for child in case.children:
        assert child.parent is not None  # noqa: S101 - only such are among them
        before = case.nodes[child.parent].prompts
        known = frozenset[str]().union(*(cut[name] for name in before.values()))
        new = [name for name in child.prompts.values() if name not in before.values()]
        for name in new:
            for text in sentences(texts[name]):
                if bare(text) not in known:
                    earlier = found.setdefault(bare(text), _Brought(text, ()))
                    if child.id not in earlier.children[-1:]:
                        found[bare(text)] = replace(earlier, children=(*earlier.children, child.id))
    return list(found.values())
