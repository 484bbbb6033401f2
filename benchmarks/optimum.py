"""The best and the worst prompt that can be reached in the sandbox, the best with a certificate.

Searches over meaning classes, not over texts: at most eight instructions in their specific wording,
each confined to its need or not. Local search finds prompts; branch and bound proves the best one,
or says how much better another could be at most.

    python -m benchmarks.optimum [--world noisy] [--profile rambling] [--split held_out]
"""

from __future__ import annotations

import argparse
import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from drpo.graph.values import LOWEST_SCORE
from drpo.models.sandbox.language import Asked, needs_of
from drpo.models.sandbox.queries import queries as queries_of
from drpo.models.sandbox.target import Target
from drpo.models.sandbox.truth import SPAN, expected_quality
from drpo.models.sandbox.world import dials, world_file, world_sha256

Instruction = tuple[str, str | None]
"""Its class, and the need it is confined to."""
Instructions = frozenset[Instruction]
Floats = NDArray[np.float64]

MOST_INSTRUCTIONS = 8
"""The rewriter keeps to eight bullets, so nothing longer is reached."""
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Reach:
    """What prompts can reach in one world."""

    worst: float
    """Truth (1-5) of the worst prompt found."""
    root: float
    best: float
    bound: float
    """No reachable prompt has more; equal to `best` where that is proven to be the best."""
    instructions: Instructions
    """Of the best one."""

    def share(self, truth: float) -> float:
        """Of the range from worst to best."""
        return (truth - self.worst) / (self.best - self.worst) if self.best > self.worst else 0.0


def reach(profile: str, split: str, *, heeds: float = 1.0, most_nodes: int = 200_000) -> Reach:
    """The reachable range of one profile over the queries of a split."""
    space = Space(profile, queries_of(split), heeds)
    worst, best = space.climb(-1), space.climb(1)
    proven, bound = Bounds(space).prove(best, most_nodes) if heeds else (best, space.value(best))
    return Reach(
        worst=space.value(worst),
        root=space.value(frozenset()),
        best=space.value(proven),
        bound=bound,
        instructions=proven,
    )


def prompt_of(instructions: Iterable[Instruction]) -> str:
    """A prompt that asks for these, each in its first specific wording."""
    known = world_file()
    lines = [known.language.openings[0], ""]
    for name, when in sorted(instructions, key=str):
        said = known.instructions[name].says[0]
        if when is not None:
            said = f"{known.needs[when].when[0]}, {said[0].lower()}{said[1:]}"
        lines.append(f"- {said}")
    return "\n".join(lines)


class Space:
    """Every set of instructions, and its expected truth."""

    def __init__(self, profile: str, queries: Sequence[str], heeds: float) -> None:
        known = world_file().instructions
        self.queries = queries
        self.needs = [needs_of(query) for query in queries]
        self.profile = profile
        self.every: list[Instruction] = [(name, None) for name in known]
        self.every += [(name, at.when) for name, at in known.items() if at.when]
        self._target = Target(profile, heeds)
        self.value = cache(self._value)

    def _value(self, chosen: Instructions) -> float:
        asked = [Asked(name, specific=True, when=when) for name, when in sorted(chosen, key=str)]
        worth = 0.0
        for query, needs in zip(self.queries, self.needs, strict=True):
            chances = self._target.chances_of(asked, len(asked), query)
            for aspect, need in needs.items():
                worth += need * expected_quality(aspect, chances)
        return LOWEST_SCORE + SPAN * worth / len(self.queries)

    def climb(self, sign: int) -> Instructions:
        """From nothing, always the best single change (or both of the pair), until none helps."""
        at: Instructions = frozenset()
        while True:
            best = max(self._neighbours(at), key=lambda other: sign * self.value(other))
            if sign * self.value(best) <= sign * self.value(at) + TOLERANCE:
                return at
            at = best

    def _neighbours(self, at: Instructions) -> list[Instructions]:
        pair = frozenset((name, None) for name in world_file().target.pair.of)
        found = [at - {old} for old in at]
        for new in self.every:
            others = frozenset(each for each in at if each[0] != new[0])
            found.append(others | {new})
            found += [(others - {old}) | {new} for old in others]
        found += [(at - {one, two}) | pair for one, two in itertools.combinations(at, 2)]
        found.append(at | pair)
        return [each for each in found if len(each) <= MOST_INSTRUCTIONS]


@dataclass(frozen=True, slots=True)
class Node:
    """Some classes decided; the rest may still come."""

    chosen: Instructions
    open: frozenset[str]


class Bounds:
    """Upper bounds on what a node can still become.

    Everything that is not decided helps as if it came alone and never harms: it lifts, it lowers
    flaws, and nothing rivals it. What it lifts has diminishing returns, so the sum of the largest
    single gains is never too small.
    """

    def __init__(self, space: Space) -> None:
        known = world_file()
        self._space = space
        self._target = known.target
        self._parts = list(known.parts)
        self._names = list(known.instructions)
        place = {part: number for number, part in enumerate(self._parts)}
        profile = known.target.profiles[space.profile]
        start = dict.fromkeys(
            (part for part, at in known.parts.items() if not at.flaw), known.target.skill
        )
        start |= {known.target.pair.part: 0.0} | dict(profile.skill) | dict(profile.flaws)
        self._start = np.array([start.get(part, 0.0) for part in self._parts])
        self._raises = np.zeros((len(self._names), len(self._parts)))
        self._lowers = np.zeros_like(self._raises)
        for row, name in enumerate(self._names):
            if name in place:
                self._raises[row, place[name]] = 1.0
            for effects in (known.target.raises, profile.raises):
                for part, effect in effects.get(name, {}).items():
                    old = self._raises[row, place[part]]
                    self._raises[row, place[part]] = 1 - (1 - old) * (1 - effect)
            for part, effect in known.target.lowers.get(name, {}).items():
                self._lowers[row, place[part]] = effect
        self._pair_part = place[known.target.pair.part]
        liftable = {part for worths in known.quality.lift.values() for part in worths}
        self._lifts = [
            [at for at in np.flatnonzero(raised) if self._parts[at] in liftable]
            + ([self._pair_part] if name in known.target.pair.of else [])
            for name, raised in zip(self._names, self._raises, strict=True)
        ]
        needed = {at.when for at in known.instructions.values() if at.when}
        self._applies: dict[str | None, Floats] = {None: np.ones(len(space.queries))} | {
            need: np.array([float(need in needs) for needs in space.needs]) for need in needed
        }
        pairs = [
            (row, aspect, weight / len(space.queries))
            for row, needs in enumerate(space.needs)
            for aspect, weight in needs.items()
        ]
        self._of_query = np.array([row for row, _, _ in pairs])
        self._weight = np.array([weight for _, _, weight in pairs])
        lift, harm = known.quality.lift, known.quality.harm
        self._lift = np.array([[lift[a].get(p, 0.0) for p in self._parts] for _, a, _ in pairs])
        self._harm = np.array(
            [[harm.get(a, {}).get(p, 0.0) for p in self._parts] for _, a, _ in pairs]
        )
        self._floor = known.quality.floor
        self._rivals = [
            each for one, other in known.target.antagonists for each in ((one, other), (other, one))
        ]

    def prove(self, found: Instructions, most_nodes: int) -> tuple[Instructions, float]:
        """The best instructions, and a bound that none exceeds."""
        best, value = found, self._space.value(found)
        root = Node(frozenset(), frozenset(self._names))
        order = itertools.count()
        heap = [(-self.bound(root)[0], next(order), root)]
        while heap and next(order) < most_nodes:
            bound, _, node = heapq.heappop(heap)
            if -bound <= value + TOLERANCE:
                return best, value
            for child in self._children(node):
                reached = self._space.value(child.chosen)
                if reached > value + TOLERANCE:
                    best, value = child.chosen, reached
                above = self.bound(child)[0]
                if above > value + TOLERANCE:
                    heapq.heappush(heap, (-above, next(order), child))
        return best, max(value, -heap[0][0]) if heap else value

    def _children(self, node: Node) -> list[Node]:
        """The class that promises most: in, confined, or out."""
        if len(node.chosen) >= MOST_INSTRUCTIONS or not node.open:
            return []
        gains = self.bound(node)[1]
        name = max(sorted(node.open), key=lambda each: gains[self._names.index(each)])
        left = node.open - {name}
        choices = [each for each in self._space.every if each[0] == name]
        return [Node(node.chosen, left), *(Node(node.chosen | {each}, left) for each in choices)]

    def bound(self, node: Node) -> tuple[float, Floats]:
        """No completion of the node has more truth; and what each open class can add at most."""
        if len(node.chosen) >= MOST_INSTRUCTIONS or not node.open:
            return self._space.value(node.chosen), np.zeros(len(self._names))
        low, high = self._strengths(node, rivals_come=True), self._strengths(node)
        full = high.copy()
        full[[self._names.index(name) for name in node.open]] = self._target.uptake
        still = (1 - self._start) * _product(high, self._raises)
        kept = _product(low, self._lowers)
        lifting = (1 - still) * kept
        if all(self._may_come(node, name, chosen_only=True) for name in self._target.pair.of):
            lifting[:, self._pair_part] = self._target.pair.chance
        harming = 1 - (1 - self._start) * _product(self._costing(low, node), self._raises)
        harming *= _product(full, self._lowers)
        kind = np.prod(1 - self._harm * harming[self._of_query], axis=1)
        factors = 1 - self._lift * lifting[self._of_query]
        missing = (1 - self._floor) * np.prod(factors, axis=1)
        worth = self._weight * kind
        gains = self._gains(node, still, kept, factors, worth * missing)
        room = MOST_INSTRUCTIONS - len(node.chosen)
        more = float(np.sum(np.sort(gains)[::-1][:room]))
        return LOWEST_SCORE + SPAN * (float(np.sum(worth * (1 - missing))) + more), gains

    def _strengths(self, node: Node, *, rivals_come: bool = False) -> Floats:
        """How much of each chosen instruction is heeded, by query."""
        applies = np.zeros((len(self._names), len(self._space.queries)))
        for name, when in node.chosen:
            applies[self._names.index(name)] = self._applies[when]
        heeded = applies * self._target.uptake
        for name, rival in self._rivals:
            there = applies[self._names.index(rival)]
            if rivals_come and rival in node.open:
                there = np.ones_like(there)
            heeded[self._names.index(name)] *= 1 - there * (1 - self._target.rivalry)
        return heeded

    def _costing(self, low: Floats, node: Node) -> Floats:
        """Half of the pair costs nothing where the other may still come."""
        costing = low.copy()
        one, other = self._target.pair.of
        for name, partner in ((one, other), (other, one)):
            if self._may_come(node, partner):
                costing[self._names.index(name)] = 0.0
        return costing

    def _may_come(self, node: Node, name: str, *, chosen_only: bool = False) -> bool:
        chosen = any(name == each for each, _ in node.chosen)
        return chosen or (name in node.open and not chosen_only)

    def _gains(
        self, node: Node, still: Floats, kept: Floats, factors: Floats, missing: Floats
    ) -> Floats:
        """What each open class lifts by itself."""
        gains = np.zeros(len(self._names))
        for name in node.open:
            row = self._names.index(name)
            for part in self._lifts[row]:
                lifting = 1 - still[:, part] * (1 - self._target.uptake * self._raises[row, part])
                lifting *= kept[:, part]
                if part == self._pair_part:
                    lifting[:] = self._target.pair.chance
                ratio = (1 - self._lift[:, part] * lifting[self._of_query]) / factors[:, part]
                gains[row] += float(missing @ (1 - np.minimum(ratio, 1.0)))
        return gains


def _product(strengths: Floats, effects: Floats) -> Floats:
    """Of 1 - strength x effect over all instructions: by query and part."""
    rows = np.flatnonzero(strengths.any(axis=1) & effects.any(axis=1))
    product: Floats = np.prod(1 - strengths[rows, :, None] * effects[rows, None, :], axis=0)
    return product


def main() -> None:
    """Print the range of one world and profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="noisy", choices=list(world_file().worlds))
    parser.add_argument("--profile", default="rambling", choices=list(world_file().target.profiles))
    parser.add_argument("--split", default=None, choices=list(world_file().splits))
    given = parser.parse_args()
    split = given.split or world_file().worlds[given.world].held_out
    found = reach(given.profile, split, heeds=dials(given.world, "target", {})["heeds"])
    print(f"world {world_sha256()[:12]} {given.world}, profile {given.profile}, queries {split}")
    print(f"worst {found.worst:.4f}, root {found.root:.4f}, best {found.best:.4f}")
    print(f"no reachable prompt has more than {found.bound:.4f}\n")
    print(prompt_of(found.instructions))


if __name__ == "__main__":
    main()
