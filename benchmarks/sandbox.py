"""How far searches end from the best reachable prompt, in worlds whose truth is known.

Prints Markdown: regret against calls for every strategy at equal budgets, dynamic against static
rewards, queries per level, what is claimed against what is true, and prompts on other profiles.
The run is the unit: means over seeds, with 95 % intervals. Nothing here speaks of real models.

    python -m benchmarks.sandbox [--seeds 20] [--worlds noisy easy ...] [--processes 2]
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlite_utils import Database

import drpo
from benchmarks.optimum import Reach, reach
from drpo.checkpoints import reader
from drpo.models.sandbox.expected import expected_truth
from drpo.models.sandbox.queries import queries
from drpo.models.sandbox.target import Target
from drpo.models.sandbox.world import dials, world_file, world_sha256

BUDGETS = (150, 300, 600)
"""Model calls of all roles, after which the best prompt so far is looked at."""
PROFILE = "rambling"
MANY_CALLS = ("search.max_extension=0", "search.queries_per_level=4")
LINES: Mapping[str, Sequence[str]] = {
    "beam": ("search=quick",),
    "greedy": ("search=greedy", "search.levels=26"),
    "monte_carlo": ("search=monte_carlo", "search.rewrites=8", "search.levels=11"),
}
"""Searches that can be looked at after each level."""
AT_ONCE: Mapping[int, int] = {150: 17, 300: 36, 600: 64}
"""Rewrites of best-of-n that use up a budget."""
BESIDE = 4
"""Calls of best-of-n for rewriter and, about, rewarder that are no evaluations."""
PER_LEVEL: Mapping[int, int] = {1: 38, 4: 12, 16: 4}
"""Levels that use up about 700 calls, by queries per level."""
PER_LEVEL_NAMES: Mapping[int, str] = {4: "beam"}
"""Searches that another table has already."""
T_95 = {20: 2.093, 24: 2.069, 30: 2.045, 40: 2.023}
"""Quantiles of Student's t for so many runs; larger numbers take the normal one."""


@dataclass(frozen=True, slots=True)
class Job:
    """One search."""

    name: str
    world: str
    profile: str
    seed: int
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """The best prompt so far, after so many calls."""

    calls: int
    truth: float
    """Expected truth on held-out queries, 1-5."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one search found."""

    points: tuple[Point, ...]
    prompt: str
    claimed: float
    """Path value of the answer less the root's reward: the gain that a user sees."""
    gained: float
    """The same in truth."""

    @property
    def truth(self) -> float:
        """Of the answer."""
        return self.points[-1].truth

    def at(self, budget: int) -> float:
        """Truth of the best prompt when the budget is used up; at first the root's."""
        within = [point for point in self.points if point.calls <= budget]
        return (within or self.points[:1])[-1].truth


def run(job: Job) -> Outcome:
    """Search, and look at what was best after each level."""
    known = world_file().worlds[job.world]
    words = (
        f"sandbox.world={job.world}",
        f"sandbox.profile={job.profile}",
        f"data.path=sandbox:{known.train}",
        f"seed={job.seed}",
        *job.overrides,
    )
    with tempfile.TemporaryDirectory() as folder:
        found = drpo.optimize_blocking(*words, runs=folder)
        nodes = reader.tree(found.path)
        calls = _calls_by_level(found.path)
    target = _target(job.world, job.profile)
    held_out = queries(known.held_out)
    bests = _bests(nodes, ever="monte_carlo" in job.name or "best_of_n" in job.name)
    points = tuple(
        Point(
            sum(count for at, count in calls.items() if at <= level),
            expected_truth(target, prompt, held_out),
        )
        for level, prompt in bests
    )
    root = nodes[0]
    return Outcome(
        points=points,
        prompt=found.prompts["system"],
        claimed=(found.path_value or 0.0) - (root["reward"] or 0.0),
        gained=points[-1].truth - expected_truth(target, root["prompts"]["system"], held_out),
    )


def _bests(nodes: Sequence[Mapping[str, object]], *, ever: bool) -> list[tuple[int, str]]:
    """Level and prompt of the best candidate so far, after each level."""
    bests: list[tuple[int, str]] = []
    scored = [node for node in nodes if node["path_value"] is not None]
    for level in sorted({int(str(node["level"])) for node in nodes}):
        here = [
            node
            for node in scored
            if (int(str(node["level"])) <= level if ever else node["level"] == level)
        ]
        best = max(here, key=lambda node: float(str(node["path_value"])), default=nodes[0])
        prompts = best["prompts"]
        bests.append((level, prompts["system"] if isinstance(prompts, dict) else ""))
    return bests


def _calls_by_level(path: Path) -> dict[int, int]:
    with closing(Database(path).conn) as connection:
        rows = connection.execute("select level, count(*) from call group by level")
        return dict(rows)


@cache
def _target(world: str, profile: str) -> Target:
    return Target(profile, dials(world, "target", {})["heeds"])


def _reach(world: str, profile: str) -> Reach:
    return reach(
        profile,
        world_file().worlds[world].held_out,
        heeds=dials(world, "target", {})["heeds"],
    )


def interval(values: Sequence[float]) -> str:
    """Mean and half the width of its 95 % interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:  # noqa: PLR2004 - one run has no spread
        return f"{mean:.2f}"
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.2f} ± {T_95.get(len(values), 1.96) * error:.2f}"


def jobs_of(worlds: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every search of every table, each once."""
    jobs: list[Job] = []
    for world in worlds:
        named: dict[str, tuple[str, ...]] = {
            name: (*words, *MANY_CALLS) for name, words in LINES.items()
        }
        for budget, rewrites in AT_ONCE.items():
            per_level = (budget - BESIDE) // (2 * (rewrites + 1))
            named[f"best_of_n {budget}"] = (
                "search=best_of_n",
                f"search.rewrites={rewrites}",
                f"search.queries_per_level={per_level}",
            )
        named["static"] = (*named["beam"], "rewards=static")
        for number, levels in PER_LEVEL.items():
            named[f"{number} per level"] = (
                "search=quick",
                f"search.levels={levels}",
                "search.max_extension=0",
                f"search.queries_per_level={number}",
            )
        for number in PER_LEVEL_NAMES:
            del named[f"{number} per level"]
        jobs += [
            Job(name, world, PROFILE, seed, words)
            for name, words in named.items()
            for seed in seeds
        ]
    others = [name for name in world_file().target.profiles if name != PROFILE]
    beam = (*LINES["beam"], *MANY_CALLS)
    if "noisy" in worlds:
        jobs += [Job("beam", "noisy", profile, s, beam) for profile in others for s in seeds]
    return jobs


Outcomes = Mapping[tuple[str, str, str], list[Outcome]]
"""By world, profile and name of the search; in the order of the seeds."""


def print_strategies(
    outcomes: Outcomes, reaches: Mapping[str, Reach], worlds: Sequence[str]
) -> None:
    """Regret against calls."""
    print("\n### Regret against calls\n")
    head = " | ".join(f"{budget} calls" for budget in BUDGETS)
    print(f"| world | strategy | {head} |\n|---|---|{'---|' * len(BUDGETS)}")
    for world in worlds:
        best = reaches[world].best
        for name in (*LINES, "best_of_n"):
            cells = []
            for budget in BUDGETS:
                key = f"best_of_n {budget}" if name == "best_of_n" else name
                found = outcomes[world, PROFILE, key]
                values = [at.truth if name == "best_of_n" else at.at(budget) for at in found]
                cells.append(interval([best - value for value in values]))
            print(f"| {world} | {name} | {' | '.join(cells)} |")


def print_range(reaches: Mapping[str, Reach], outcomes: Outcomes, worlds: Sequence[str]) -> None:
    """What can be reached, and what is."""
    print("\n### The reachable range, and where the searches of about 680 calls end\n")
    print("| world | worst | root | best | proven bound | beam, share of the range |")
    print("|---|---|---|---|---|---|")
    for world in worlds:
        at = reaches[world]
        share = interval([100 * at.share(each.truth) for each in outcomes[world, PROFILE, "beam"]])
        shown = f"{share} %" if at.best > at.worst else "-"
        figures = " | ".join(f"{each:.2f}" for each in (at.worst, at.root, at.best, at.bound))
        print(f"| {world} | {figures} | {shown} |")


def print_rewards(outcomes: Outcomes, worlds: Sequence[str]) -> None:
    """Dynamic against static, the same seeds."""
    print("\n### Truth with dynamic rewards less truth with static ones, paired by seed\n")
    print("| world | dynamic | static | dynamic - static |\n|---|---|---|---|")
    for world in worlds:
        dynamic = [each.truth for each in outcomes[world, PROFILE, "beam"]]
        static = [each.truth for each in outcomes[world, PROFILE, "static"]]
        differences = [one - other for one, other in zip(dynamic, static, strict=True)]
        print(f"| {world} | {interval(dynamic)} | {interval(static)} | {interval(differences)} |")


def print_per_level(
    outcomes: Outcomes, reaches: Mapping[str, Reach], worlds: Sequence[str]
) -> None:
    """Few levels of many queries, or the other way round."""
    print("\n### Regret after about 700 calls, by queries per level\n")
    print(f"| world | {' | '.join(f'{n} ({levels} levels)' for n, levels in PER_LEVEL.items())} |")
    print(f"|---|{'---|' * len(PER_LEVEL)}")
    for world in worlds:
        names = [PER_LEVEL_NAMES.get(number, f"{number} per level") for number in PER_LEVEL]
        cells = [
            interval([reaches[world].best - each.truth for each in outcomes[world, PROFILE, name]])
            for name in names
        ]
        print(f"| {world} | {' | '.join(cells)} |")


def print_claims(outcomes: Outcomes, worlds: Sequence[str]) -> None:
    """What the user is told against what is true."""
    print("\n### The gain a search claims, and the gain there is (beam)\n")
    print(
        "| world | path value - root's reward | gain in truth on held-out queries |\n|---|---|---|"
    )
    for world in worlds:
        found = outcomes[world, PROFILE, "beam"]
        claimed = interval([each.claimed for each in found])
        print(f"| {world} | {claimed} | {interval([each.gained for each in found])} |")


def print_transfer(outcomes: Outcomes) -> None:
    """Prompts found for one profile, on another."""
    profiles = list(world_file().target.profiles)
    held_out = queries(world_file().worlds["noisy"].held_out)
    print("\n### Truth of prompts on other profiles than they were found for (noisy)\n")
    print(f"| on | {' | '.join(f'found for {each}' for each in profiles)} | own - others |")
    print(f"|---|{'---|' * (len(profiles) + 1)}")
    for on in profiles:
        target = _target("noisy", on)
        truths = {
            each: [
                expected_truth(target, found.prompt, held_out)
                for found in outcomes["noisy", each, "beam"]
            ]
            for each in profiles
        }
        seeds = range(len(truths[on]))
        others = [each for each in profiles if each != on]
        gaps = [
            truths[on][seed] - statistics.fmean(truths[each][seed] for each in others)
            for seed in seeds
        ]
        cells = " | ".join(interval(truths[each]) for each in profiles)
        print(f"| {on} | {cells} | {interval(gaps)} |")


def main() -> None:
    """Run every search and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--worlds", nargs="+", default=list(world_file().worlds))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    begun = time.monotonic()
    jobs = jobs_of(given.worlds, range(given.seeds))
    with ProcessPoolExecutor(given.processes) as pool:
        reached = list(pool.map(_reach, given.worlds, [PROFILE] * len(given.worlds)))
        found = list(pool.map(run, jobs, chunksize=4))
    reaches = dict(zip(given.worlds, reached, strict=True))
    outcomes: dict[tuple[str, str, str], list[Outcome]] = {}
    for job, outcome in zip(jobs, found, strict=True):
        outcomes.setdefault((job.world, job.profile, job.name), []).append(outcome)
    minutes = (time.monotonic() - begun) / 60
    print(f"World file sha256 {world_sha256()}, profile {PROFILE}, {given.seeds} seeds,", end=" ")
    print(f"{len(jobs)} searches, {minutes:.0f} minutes. Truth is on a scale from 1 to 5.")
    print_range(reaches, outcomes, given.worlds)
    print_strategies(outcomes, reaches, given.worlds)
    print_rewards(outcomes, given.worlds)
    print_per_level(outcomes, reaches, given.worlds)
    print_claims(outcomes, given.worlds)
    if "noisy" in given.worlds:
        print_transfer(outcomes)


if __name__ == "__main__":
    main()
