"""The world's parameters: one frozen file, read once, in types.

Each role is given its own section and the language, and never looks into another's.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Chances = Mapping[str, float]
"""By name of a part, 0-1."""

OFF_POOL = ("Practicality", "Personal-Fit", "Priorities")
"""Aspects that carry truth and that no shipped pool has."""


class Section(BaseModel):
    """A table of the file: no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Need(Section):
    """An aspect as queries ask for it."""

    definition: str
    patterns: tuple[str, ...]
    phrases: tuple[str, ...]
    """Wordings that queries are made of."""
    when: tuple[str, ...]
    """How a prompt confines an instruction to queries with this need."""
    share: float
    """How often queries have it, relative to the others."""
    shifted: float
    """The same in the shifted split."""
    pool: bool = True
    """Whether the standard pool has the aspect."""


class Part(Section):
    """A piece of an answer."""

    mark: str
    says: tuple[str, ...]
    lacks: tuple[str, ...]
    """How a critic says that it is missing or, of a flaw, that it is there."""
    flaw: bool = False


class Instruction(Section):
    """A meaning class of what a prompt may ask for."""

    specific: tuple[str, ...]
    vague: tuple[str, ...] = ()
    says: tuple[str, ...]
    """Specific wordings."""
    hints: tuple[str, ...] = ()
    """Vague ones."""
    when: str | None = None
    """The need to which it may be confined."""


class Words(Section):
    """Words that belong to nothing else."""

    no: str
    condition: str
    topic: str
    aspects: str
    simulated: str
    gist: str
    openings: tuple[str, ...]
    manners: tuple[str, ...]


class Quality(Section):
    """What parts are worth: the truth."""

    floor: float
    lift: Mapping[str, Chances]
    """How much of the way to perfect a part goes, by aspect."""
    harm: Mapping[str, Chances]
    """How much of the quality a part takes, by aspect."""


class Profile(Section):
    """One simulated model under test."""

    about: str
    best_examples: int
    skill: Chances
    flaws: Chances
    raises: Mapping[str, Chances] = Field(default_factory=dict)


class Pair(Section):
    """Two instructions that do good only together."""

    of: tuple[str, str]
    part: str
    chance: float


class ExampleEffects(Section):
    """How in-context examples act."""

    alike: float
    imitation: float
    distraction: float
    surfeit: float


class TargetKnowledge(Section):
    """From prompts to chances of parts."""

    uptake: float
    vague: float
    attention: int
    fatigue: float
    rivalry: float
    antagonists: tuple[tuple[str, str], ...]
    skill: float
    words: int
    raises: Mapping[str, Chances]
    lowers: Mapping[str, Chances]
    pair: Pair
    examples: ExampleEffects
    profiles: Mapping[str, Profile]


class JudgeKnowledge(Section):
    """What the judge knows beside the quality of parts."""

    words: int
    blames: int
    ask: str


class RewarderKnowledge(Section):
    """Aspects it may propose, with definitions."""

    known: Mapping[str, str]


class Harmful(Section):
    """What sounds well and does harm."""

    adds: tuple[str, ...]
    drops: float


class RewriterKnowledge(Section):
    """What the rewriter believes to help."""

    most_bullets: int
    two: float
    confines: float
    scored_low: float
    malformed: float
    rewordings: Chances
    fitted: str
    remedies: Mapping[str, tuple[str, ...]]
    culprits: Mapping[str, tuple[str, ...]]
    guesses: Mapping[str, tuple[str, ...]]
    harmful: Harmful


class World(Section):
    """The dials of one named world; a dial of 0 does nothing."""

    about: str
    train: str
    held_out: str
    target: Chances
    judge: Chances
    rewarder: Chances
    rewriter: Chances


class Split(Section):
    """A set of queries: whose topics, how many, and needs by share or the same for all."""

    topics: str
    queries: int
    shares: str | None = None
    needs: tuple[str, ...] = ()


class WorldFile(Section):
    """All of it."""

    version: int
    needs: Mapping[str, Need]
    parts: Mapping[str, Part]
    instructions: Mapping[str, Instruction]
    language: Words
    quality: Quality
    target: TargetKnowledge
    judge: JudgeKnowledge
    rewarder: RewarderKnowledge
    rewriter: RewriterKnowledge
    worlds: Mapping[str, World]
    splits: Mapping[str, Split]
    topics: Mapping[str, tuple[str, ...]]


@cache
def world_file() -> WorldFile:
    """The frozen file."""
    return WorldFile.model_validate(tomllib.loads(_text()))


@cache
def world_sha256() -> str:
    """Of the frozen file: names the world that a run or a table was made in."""
    return hashlib.sha256(_text().encode()).hexdigest()


def dials(world: str, role: str, own: Mapping[str, float]) -> Chances:
    """Of one role in a named world; `own` replaces some of them."""
    known: Mapping[str, Any] = getattr(world_file().worlds[world], role)
    return dict(known) | dict(own)


def _text() -> str:
    return (files("drpo.models.sandbox") / "world.toml").read_text("utf-8")
