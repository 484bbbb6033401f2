"""How often validation finds a gain that is not there, and one that is.

`python -m benchmarks.validation [--decisions 2000]` simulates the decision procedure and prints two
tables; its exit code is 1 where false gains are not shown to stay below 6 %, or the power is below
0.8. `--spread FILE...` measures on recorded runs (drpo-replay/1) how far two prompts' rewards for
one query lie apart. `--null 200` makes so many whole alignments in the world where no prompt has an
effect, and counts those that claim a gain.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import drpo
from drpo.graph.errors import BadInput
from drpo.graph.values import mean
from drpo.models.recorded import RecordedRun
from drpo.nodes.gain import POWER, differences, is_real, p_value, smallest_gain

DECISIONS = 2_000
MOST_FALSE = 0.06
"""What the upper bound of the rate of false gains may be."""
SURE = 0.95
CANDIDATES = (1, 3, 8)
SELECT, CONFIRM = 32, 64
"""Queries, as `drpo align` splits the 160 of the sandbox."""
OTHER_CONFIRM = (6, 10, 29, 150)
"""29 are those of the shipped queries."""
POWER_QUERIES = (5, 6, 8, 10, 15, 30, 60, 150, 400)
POWER_SPREADS = (0.4, 0.8)
MIN_GAIN = 0.1
SEED = 1

Rewards = NDArray[np.float64]
"""Candidate x query x sample, the root first; NaN where an answer is unscored."""


NULL = (
    "sandbox.world=null",
    "data.limit=100",
    "search=greedy",
    "search.levels=4",
    "examples.limit=3",
    "examples.rounds=2",
)
"""A short alignment; forty queries confirm it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """How rewards come about: query, then candidate on the query, then answer, then verdict."""

    name: str
    aspects: tuple[int, int] = (2, 5)
    """Fewest and most of a query; each has a whole score from 1 to 5."""
    level: float = 3.2
    """Mean before the scores are rounded and cut off."""
    own: float = 0.6
    """Standard deviation of what a candidate makes of a query, alike for every candidate."""
    broken: float = 0.0
    """Share of a candidate's queries that it gets altogether wrong."""
    answer: float = 0.4
    judge: float = 0.5
    """Standard deviations from answer to answer, and from verdict to verdict and aspect."""
    samples: int = 1
    repeats: int = 1
    """Verdicts of an answer."""
    unscored: float = 0.0
    """Share of answers."""
    trade: tuple[float, float] | None = None
    """Share of the queries on which every candidate but the root loses, and by how much, while it
    gains on the others: no more and no less in the mean, but no candidate may stand for another.
    Scores are neither rounded nor cut off then."""

    def rewards(self, rng: np.random.Generator, candidates: int, queries: int) -> Rewards:
        """Of the root and so many candidates that are no better."""
        arms = candidates + 1
        fewest, most = self.aspects
        latent = self.level + rng.normal(0, 0.8, (1, queries)) + self._own(rng, arms, queries)
        answers = latent[..., None] + rng.normal(0, self.answer, (arms, queries, self.samples))
        shape = (arms, queries, self.samples, self.repeats, most)
        scores = answers[..., None, None] + rng.normal(0, self.judge, shape)
        if self.trade is None:
            scores = np.clip(np.rint(scores), 1, 5)
        counts = rng.integers(fewest, most + 1, queries)
        asked = np.arange(most) < counts[:, None]
        verdicts = (scores * asked[None, :, None, None, :]).sum(axis=-1)
        rewards: Rewards = (verdicts / counts[None, :, None, None]).mean(axis=-1)
        rewards[rng.random(rewards.shape) < self.unscored] = np.nan
        return rewards

    def _own(self, rng: np.random.Generator, arms: int, queries: int) -> Rewards:
        own = rng.normal(0, self.own, (arms, queries))
        own = np.where(rng.random(own.shape) < self.broken, -3.0, own)
        if self.trade is not None:
            share, loss = self.trade
            loses = rng.random((arms - 1, queries)) < share
            own[1:] += np.where(loses, -loss, loss * share / (1 - share))
        return own


WORLDS = (
    World(name="means of 2-5 aspects"),
    World(name="a noisy judge", judge=1.2),
    World(name="2 samples, 3 verdicts each", judge=1.2, samples=2, repeats=3),
    World(name="one whole score a query", aspects=(1, 1)),
    World(name="most differences are 0", aspects=(1, 1), own=0.1, answer=0.1, judge=0.1),
    World(name="most scores are 5", level=5.2),
    World(name="a tenth of the answers is broken", broken=0.1),
    World(name="a tenth of the answers is unscored", unscored=0.1),
    World(name="many small gains, few large losses", trade=(0.1, 1.0)),
    World(name="many small losses, few large gains", trade=(0.1, -1.0)),
)


def false_gains(world: World, candidates: int, confirm: int, decisions: int) -> int:
    """Decisions for a challenger, the best on `select` of candidates that are no better."""
    rng = np.random.default_rng([SEED, candidates, confirm, *world.name.encode()])
    wrong = 0
    for decision in range(decisions):
        root, *others = map(_by_query, world.rewards(rng, candidates, SELECT))
        means = [mean(differences(other, root)) or 0.0 for other in others]
        root, *others = map(_by_query, world.rewards(rng, candidates, confirm))
        found = differences(others[means.index(max(means))], root)
        wrong += _decided(found, decision)
    return wrong


def _decided(found: Sequence[float], seed: int) -> bool:
    """What `gain_of` decides, without its interval, which takes longest."""
    return is_real(mean(found) or 0.0, p_value(found, seed), MIN_GAIN)


def _by_query(rewards: Rewards) -> dict[int, list[float | None]]:
    return {
        query: [None if math.isnan(reward) else reward for reward in samples]
        for query, samples in enumerate(rewards.tolist())
    }


def found_gains(queries: int, spread: float, gain: float, step: float, decisions: int) -> int:
    """Decisions for a challenger that is better by `gain`; `step` lies between differences."""
    rng = np.random.default_rng([SEED, queries, int(100 * spread), int(100 * step)])
    right = 0
    for decision in range(decisions):
        found = rng.normal(gain, spread, queries)
        if step:
            found = np.rint(found / step) * step
        right += _decided(found.tolist(), decision)
    return right


def upper_bound(hits: int, tries: int) -> float:
    """Of a probability, one-sided 95 % by Clopper and Pearson: so few hits have 5 % there."""
    low, high = hits / tries, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if middle < 1 and _at_most(hits, tries, middle) > 1 - SURE:
            low = middle
        else:
            high = middle
    return high


def _at_most(hits: int, tries: int, probability: float) -> float:
    """That so many or fewer of the tries hit."""
    logs = (
        math.lgamma(tries + 1)
        - math.lgamma(hit + 1)
        - math.lgamma(tries - hit + 1)
        + hit * math.log(probability)
        + (tries - hit) * math.log1p(-probability)
        for hit in range(hits + 1)
    )
    return math.fsum(map(math.exp, logs))


def null_table(decisions: int) -> bool:
    """Prints how often a gain is found where there is none; whether that is seldom enough."""
    print(f"| rewards | queries | {' | '.join(f'{count} candidates' for count in CANDIDATES)} |")
    print(f"|---|---|{'---|' * len(CANDIDATES)}")
    worst = 0.0
    cases = [(world, CONFIRM) for world in WORLDS] + [(WORLDS[0], few) for few in OTHER_CONFIRM]
    for world, confirm in cases:
        cells = []
        for candidates in CANDIDATES:
            wrong = false_gains(world, candidates, confirm, decisions)
            bound = upper_bound(wrong, decisions)
            worst = max(worst, bound)
            cells.append(f"{wrong / decisions:.2%} (<= {bound:.2%})")
        print(f"| {world.name} | {confirm} | {' | '.join(cells)} |", flush=True)
    return worst <= MOST_FALSE


def power_table(decisions: int) -> bool:
    """Prints how often the smallest gain is found; whether that is often enough."""
    print("| queries | spread | smallest gain | normal | in quarters |\n|---|---|---|---|---|")
    least = 1.0
    for queries in POWER_QUERIES:
        for spread in POWER_SPREADS:
            gain = smallest_gain(queries, spread, MIN_GAIN)
            assert gain is not None
            shares = [
                found_gains(queries, spread, gain, step, decisions) / decisions
                for step in (0.0, 0.25)
            ]
            least = min(least, *shares)
            cells = " | ".join(f"{share:.3f}" for share in shares)
            print(f"| {queries} | {spread:g} | {gain:.2f} | {cells} |", flush=True)
    return least >= POWER


def spread_table(files: Sequence[Path]) -> None:
    """Prints how far the rewards of two prompts lie apart on the same query."""
    print("| run | queries | standard deviation |\n|---|---|---|")
    every: list[float] = []
    for file in files:
        squares = _squares(RecordedRun.read(file))
        every += squares
        print(f"| {file.stem} | {len(squares)} | {_root_mean(squares):.2f} |")
    print(f"| together | {len(every)} | {_root_mean(every):.2f} |")


def _squares(recorded: RecordedRun) -> list[float]:
    """Per level, all of whose candidates answer one query: the mean squared difference of two.

    Its expectation is the variance of the difference where no candidate is better than another,
    and more where one is. An unreadable verdict, recorded as reward 0, is left out.
    """
    found = []
    for level in range(1, len(recorded.levels)):
        nodes = [n for n in recorded.nodes if n.depth == level and n.eval_dict]
        pairs = [
            (one.eval_mean - other.eval_mean) ** 2
            for one, other in combinations(nodes, 2)
            if recorded.prompt(one.id) != recorded.prompt(other.id)
        ]
        found += [mean(pairs) or 0.0] if pairs else []
    return found


def _root_mean(squares: Sequence[float]) -> float:
    return math.sqrt(mean(squares) or 0.0)


def null_alignments(count: int, first: int) -> int:
    """Prints how many of so many alignments in the null world claim a gain, and which."""
    claimed = []
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory(prefix="drpo-null-") as runs:
            told = drpo.align_blocking(*NULL, f"seed={seed}", runs=runs).summary
        if told["findings"]["confirm"]["real"]:
            claimed.append(seed)
        print(f"seed {seed}: {len(claimed)} of {seed - first + 1}", file=sys.stderr, flush=True)
    upper = upper_bound(len(claimed), count)
    print("| alignments | claim a gain | 95 % upper bound | seeds |\n|---|---|---|---|")
    print(f"| {count} | {len(claimed)} | {upper:.1%} | {', '.join(map(str, claimed)) or '-'} |")
    return len(claimed)


def main(arguments: Sequence[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=DECISIONS, help="in each cell")
    parser.add_argument("--spread", type=Path, nargs="+", metavar="FILE", help="recorded runs")
    parser.add_argument("--null", type=int, metavar="RUNS", help="whole alignments")
    parser.add_argument("--first", type=int, default=0, help="seed of the first of them")
    chosen = parser.parse_args(arguments)
    if chosen.null:
        null_alignments(chosen.null, chosen.first)
        return 0
    if chosen.spread:
        try:
            spread_table(chosen.spread)
        except BadInput as error:
            print(error)
            return 2
        return 0
    fine = null_table(chosen.decisions)
    print()
    return 0 if power_table(chosen.decisions) and fine else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
