"""The shipped world is worth searching: neither trivial nor hopeless, its best prompt known."""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
from functools import cache
from pathlib import Path

import pytest

import drpo
from benchmarks.optimum import Bounds, Instructions, Node, Reach, Space, prompt_of, reach
from drpo.models.sandbox.expected import expected_truth
from drpo.models.sandbox.queries import queries
from drpo.models.sandbox.target import Target
from drpo.models.sandbox.world import world_file

PROFILES = tuple(world_file().target.profiles)
HELD_OUT = "held_out"
ROOT = "You are a helpful assistant."
SEEDS = range(8)


@cache
def reached(profile: str) -> Reach:
    """Computed once for all tests."""
    return reach(profile, HELD_OUT)


def share(prompt: str, profile: str) -> float:
    """Of the reachable range."""
    return reached(profile).share(expected_truth(Target(profile), prompt, queries(HELD_OUT)))


def bullets(lines: list[str]) -> str:
    """A prompt of the root and these."""
    return "\n".join([ROOT, "", *(f"- {line}" for line in lines)])


@cache
def found(*overrides: str) -> float:
    """Mean share of the prompts that searches of several seeds end with."""
    return statistics.fmean(_found(seed, *overrides) for seed in SEEDS)


def _found(seed: int, *overrides: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        result = drpo.optimize_blocking(f"seed={seed}", *overrides, runs=Path(folder))
    return share(result.prompts["system"], "rambling")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_root_is_poor(profile: str) -> None:
    """At most 40 % of the reachable range."""
    assert share(ROOT, profile) <= 0.40


@pytest.mark.parametrize("profile", PROFILES)
def test_one_instruction_is_not_enough(profile: str) -> None:
    """The best single one, in any of its wordings: at most 55 %."""
    known = world_file().instructions.values()
    assert max(share(bullets([said]), profile) for each in known for said in each.says) <= 0.55


@pytest.mark.parametrize("profile", PROFILES)
def test_all_at_once_is_no_way_out(profile: str) -> None:
    """At most 60 %, also without those that do harm."""
    known = world_file()
    every = [each.says[0] for each in known.instructions.values()]
    harmful = known.rewriter.harmful.adds
    good = [each.says[0] for name, each in known.instructions.items() if name not in harmful]
    assert share(bullets(every), profile) <= 0.60
    assert share(bullets(good), profile) <= 0.60


def test_random_rewrites_do_not_get_far() -> None:
    """Rewrites of the root, the best of as many as 300 calls can judge: at most 60 %."""
    assert found("search=best_of_n", "search.rewrites=36", "budget.calls=310") <= 0.60


def test_the_default_search_gets_far_but_not_all_the_way() -> None:
    """At least 75 % and less than 97 % of the reachable range."""
    assert 0.75 <= found() < 0.97


def test_a_rewriter_that_is_told_why_gets_further() -> None:
    """Than one that may only reword and guess."""
    blind = "models.rewriter.dials={helpful:0,neutral:0.5,harmful:0.4,off:0.1}"
    assert found() > found(blind) + 0.1


def test_optima_differ_between_profiles() -> None:
    """And the best prompt for one is worse on each other."""
    best = {profile: reached(profile).instructions for profile in PROFILES}
    assert len(set(best.values())) == len(PROFILES)
    for one, other in itertools.permutations(PROFILES, 2):
        assert share(prompt_of(best[one]), other) < share(prompt_of(best[other]), other)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_best_prompt_is_proven(profile: str) -> None:
    """Its text is worth what its classes are, and no other is worth more."""
    at = reached(profile)
    assert at.bound == pytest.approx(at.best)
    worth = expected_truth(Target(profile), prompt_of(at.instructions), queries(HELD_OUT))
    assert worth == pytest.approx(at.best)


def test_a_bound_is_never_below_what_can_come() -> None:
    """For random completions of random nodes."""
    rng = random.Random(0)
    space = Space("rambling", queries(HELD_OUT)[:20], 1.0)
    bounds, names = Bounds(space), list(world_file().instructions)
    for _ in range(60):
        order = rng.sample(names, len(names))
        decided = order[: rng.randint(0, 20)]
        whole = _drawn(order, space, rng)
        node = Node(
            frozenset(each for each in whole if each[0] in decided),
            frozenset(names) - frozenset(decided),
        )
        assert bounds.bound(node)[0] >= space.value(whole) - 1e-9


def _drawn(order: list[str], space: Space, rng: random.Random) -> Instructions:
    chosen = rng.sample(order, rng.randint(0, 8))
    return frozenset(
        rng.choice([each for each in space.every if each[0] == name]) for name in chosen
    )
