"""The frozen file: named worlds, splits of queries, and the number that names it all."""

from __future__ import annotations

import random
from collections import Counter
from typing import get_args

import pytest
from sandboxes import KNOWN, POOL, PROFILES, sandbox

from drpo.conf.schema import WorldName
from drpo.graph.errors import BadInput
from drpo.graph.values import ROLES, Role
from drpo.models.sandbox.queries import drawn_needs, queries, split_names
from drpo.models.sandbox.world import OFF_POOL, dials, world_file, world_sha256

DRAWS = 6_000


def frequencies(split: str, seed: int) -> dict[str, float]:
    """How many of many fresh queries of a split have each need."""
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    for _ in range(DRAWS):
        counts.update(drawn_needs(KNOWN.splits[split], rng))
    return {name: counts[name] / DRAWS for name in KNOWN.needs}


def furthest(one: dict[str, float], other: dict[str, float]) -> float:
    return max(abs(one[name] - other[name]) for name in KNOWN.needs)


def test_there_are_five_worlds() -> None:
    """As many as the settings allow, each with every dial of every role."""
    names = ("noisy", "easy", "deceptive", "shifted", "null")
    assert tuple(KNOWN.worlds) == names == get_args(get_args(WorldName)[0])
    for role in ROLES:
        assert len({tuple(sorted(dials(name, role, {}))) for name in names}) == 1


@pytest.mark.parametrize("name", KNOWN.worlds)
def test_worlds_are_made_of_known_splits(name: str) -> None:
    """Each trains on one split and is measured on another, of other topics."""
    world = KNOWN.worlds[name]
    assert world.train in split_names()
    assert world.held_out in split_names()
    assert KNOWN.splits[world.train].topics != KNOWN.splits[world.held_out].topics


@pytest.mark.parametrize("split", split_names())
def test_splits_are_the_same_every_time(split: str) -> None:
    """As many queries as the file says, no two alike, whatever was drawn before."""
    first = queries(split)
    queries.cache_clear()
    random.random()
    assert queries(split) == first
    assert len(set(first)) == len(first) == KNOWN.splits[split].queries


def test_unknown_split() -> None:
    """There is no split beside those of the file."""
    with pytest.raises(KeyError):
        queries("nowhere")


def test_splits_share_no_topic() -> None:
    """No training query begins with a topic of the held-out ones, nor the other way round."""
    train, held_out = KNOWN.topics["train"], KNOWN.topics["held_out"]
    assert not set(train) & set(held_out)
    assert all(query.startswith(train) for query in queries("train"))
    assert all(query.startswith(held_out) for query in queries("held_out"))
    assert not any(query.startswith(train) for query in queries("shifted"))


def test_train_and_held_out_share_one_distribution() -> None:
    """Fresh draws of the two have every need equally often, up to chance."""
    assert furthest(frequencies("train", 1), frequencies("held_out", 2)) < 0.03


def test_shifted_queries_need_other_things() -> None:
    """Some need is there far more often than in training, and some far less."""
    train, shifted = frequencies("train", 1), frequencies("shifted", 2)
    assert max(shifted[name] - train[name] for name in train) > 0.1
    assert max(train[name] - shifted[name] for name in train) > 0.1


def test_some_need_is_rare() -> None:
    """Fewer than one query in twenty has it, but it is there."""
    assert 0.01 < min(frequencies("train", 1).values()) < 0.05


@pytest.mark.parametrize("split", ["constant", "constant_held_out"])
def test_constant_queries_need_the_same(split: str) -> None:
    """Every query of these splits needs the same five."""
    assert {drawn_needs(KNOWN.splits[split], random.Random(seed)) for seed in range(9)} == {
        KNOWN.splits[split].needs
    }
    assert len(KNOWN.splits[split].needs) == 5


def test_pool_lacks_three_aspects() -> None:
    """What carries truth outside the pool is what the rewarder may propose."""
    names = {aspect.name for aspect in POOL}
    assert set(OFF_POOL) == set(KNOWN.needs) - names == set(KNOWN.rewarder.known)


def test_every_name_in_the_file_is_known() -> None:
    """Parts and instructions of one section are those of the others."""
    parts, asked = set(KNOWN.parts), set(KNOWN.instructions)
    for worths in (KNOWN.quality.lift, KNOWN.quality.harm):
        assert set(worths) <= set(KNOWN.needs)
        assert {part for worth in worths.values() for part in worth} <= parts
    target, rewriter = KNOWN.target, KNOWN.rewriter
    assert set(target.raises) | set(target.lowers) | set(target.pair.of) <= asked
    for profile in target.profiles.values():
        assert set(profile.skill) | set(profile.flaws) <= parts
        assert set(profile.raises) <= asked
    assert set(rewriter.remedies) == parts
    for names in (*rewriter.remedies.values(), *rewriter.culprits.values()):
        assert set(names) <= asked
    assert {name for names in rewriter.guesses.values() for name in names} <= asked
    assert set(rewriter.harmful.adds) <= asked


def test_no_part_lifts_and_harms_one_aspect() -> None:
    """Or expected truth would not be exact."""
    for aspect, lift in KNOWN.quality.lift.items():
        assert not set(lift) & set(KNOWN.quality.harm.get(aspect, {}))


@pytest.mark.parametrize("role", ROLES)
def test_unknown_dial(role: Role) -> None:
    """A dial that the role does not have is refused, with those that it has."""
    with pytest.raises(BadInput, match="no dial 'volume'; allowed are"):
        sandbox(role, dials={"volume": 1})


@pytest.mark.parametrize("world", KNOWN.worlds)
@pytest.mark.parametrize("profile", PROFILES)
def test_parameters_name_the_world(world: str, profile: str) -> None:
    """What a run records says which world, profile and seed it was made in."""
    found = sandbox("judge", world=world, profile=profile, seed=4, dials={"noise": 0}).parameters
    assert (found["world"], found["profile"], found["seed"]) == (world, profile, 4)
    assert found["dials"] == {"noise": 0}
    assert found["sha256"] == world_sha256()


def test_file_is_read_once() -> None:
    """Everybody has the same frozen object."""
    assert world_file() is world_file()


def test_world_is_the_frozen_one() -> None:
    """A changed number in the file is another world: its results compare with no earlier one's.

    Where that is meant, raise `version` in world.toml if results were published, make the tables
    anew, and write the new number here.
    """
    assert world_sha256() == "fdee70aa8b61ce7f3cd646d638697898e3ce0727bac255f42b8f07c1ce2785e5"
