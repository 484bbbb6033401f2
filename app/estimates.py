"""What a search will take, before it starts: calls, tokens, dollars and seconds, low to high.

Calls follow from the settings, and their highest is never exceeded. Tokens come from the questions
the nodes would really ask, filled with texts of usual length. Asks nobody, writes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from drpo.conf.schema import RetrievalSettings, SandboxSettings, Settings
from drpo.courses import Course, Courses, StageCourses
from drpo.graph.context import Context, Place
from drpo.graph.requests import Request
from drpo.graph.values import (
    ROLES,
    Aspect,
    Candidate,
    Evaluation,
    Example,
    Prompts,
    Query,
    Role,
    Sample,
    Score,
    Selection,
    Verdict,
)
from drpo.kinds import Plan
from drpo.models.completions import CHARACTERS_PER_TOKEN
from drpo.models.prices import Price, is_listed, listed_at, price_of
from drpo.models.retrieval import fitting, is_too_long, tokens
from drpo.nodes import judge, rewrite, select_rewards
from drpo.nodes.target import ChatTarget
from drpo.parts import context_for
from drpo.run import check_root

QUERIES_READ = 8
"""How many of the run's queries stand for all of them."""
PROMPT_TOKENS = 200
"""Of a prompt that has been rewritten: a few sentences and up to eight bullet points."""
TARGET_TOKENS = 300
"""An answer of three or four paragraphs, as chat models give when nothing limits them."""
REWARDER_TOKENS = 250
"""A short analysis of the query, and a reason and a definition per aspect."""
JUDGE_TOKENS = 45
"""One aspect of a verdict: a rationale of two sentences, and a score."""
REWRITER_TOKENS = 300
"""One rewrite: an analysis of two sentences, and the new prompt."""
LENGTHS = (0.4, 1.0, 2.5)
"""How much shorter or longer texts may be than these: low, expected, high."""
LATENCY_S = (1.0, 4.0, 15.0)
"""Seconds of one call to a real model: low, expected, high."""


@dataclass(frozen=True, slots=True)
class Span:
    """One figure, from low to high."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True)
class Taking:
    """What one role takes, or all of them."""

    calls: Span
    """`high` is never exceeded."""
    prompt_tokens: Span
    completion_tokens: Span
    cost_usd: Span | None
    """None where the price is unknown."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a whole search will take."""

    roles: Mapping[Role, Taking]
    total: Taking
    """Its `low` is that of the one cheapest search, so it may be more than the roles' together."""
    seconds: Span
    prices_at: str | None
    """When the listed prices were written down; None where none is used."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one course of the search takes."""

    calls: float = 0.0
    prompt: float = 0.0
    completion: float = 0.0
    cost_usd: float | None = 0.0

    def __add__(self, other: _Taken) -> _Taken:
        unknown = self.cost_usd is None or other.cost_usd is None
        return _Taken(
            self.calls + other.calls,
            self.prompt + other.prompt,
            self.completion + other.completion,
            None if unknown else (self.cost_usd or 0.0) + (other.cost_usd or 0.0),
        )


@dataclass(frozen=True, slots=True)
class _Size:
    """Mean tokens of one call."""

    prompt: float
    completion: float


def estimate_of(settings: Settings, plan: Plan) -> Estimate:
    """What a run with these settings and this data will take. Raises BadInput."""
    check_root(settings)
    # Questions are built, but nobody is asked and nothing is looked up.
    nobody: Any = None
    context = context_for(settings, plan.queries, nobody, nobody)
    budget, every = settings.budget.calls, _courses(settings, plan, context)
    tiers = [[course.within(budget) for course in ways] for ways in every]
    sizes = [
        _Questions(
            settings, context, tier, usual_examples(plan.examples, settings.retrieval, tier)
        ).sizes()
        for tier in range(len(tiers))
    ]
    taken = [
        [_taken(course.calls, size, settings) for course in ways]
        for ways, size in zip(tiers, sizes, strict=True)
    ]
    # One role alone may use up more of a budget than its share.
    alone = _taken(every[-1][0].alone(budget), sizes[-1], settings)
    return Estimate(
        roles={
            role: _taking([*([way[role] for way in ways] for ways in taken[:-1]), [alone[role]]])
            for role in ROLES
        },
        total=_taking([[_total(way) for way in ways] for ways in taken]),
        seconds=_span(
            [[_seconds(way, settings, tier) for way in ways] for tier, ways in enumerate(tiers)], 1
        ),
        prices_at=listed_at() if _uses_list(settings) else None,
    )


def _courses(
    settings: Settings, plan: Plan, context: Context
) -> tuple[Sequence[Course], Sequence[Course], Sequence[Course]]:
    """The ways the run may go: those that take the least, the usual one, that takes the most."""
    stages = StageCourses(settings, plan.queries)
    if plan.kind == "examples":
        return (stages.least(),), (stages.most(),), (stages.most(),)
    search = Courses(settings, plan.count("train"), context.order.levels)
    ways = (search.least(), (search.expected(),), (search.most(),))
    if plan.kind == "search":
        return ways
    beside = (stages.least(), stages.most(), stages.most())
    least, expected, most = (
        [course + more for course in each] for each, more in zip(ways, beside, strict=True)
    )
    return least, expected, most


def _taken(
    calls: Mapping[Role, float], sizes: Mapping[Role, _Size], settings: Settings
) -> dict[Role, _Taken]:
    return {
        role: _of_role(calls[role], sizes[role], price_of(getattr(settings.models, role)))
        for role in ROLES
    }


def _of_role(calls: float, size: _Size, price: Price | None) -> _Taken:
    prompt, completion = calls * size.prompt, calls * size.completion
    cost = price.cost_usd(prompt, completion) if price is not None else None
    return _Taken(calls, prompt, completion, cost if calls else 0.0)


def _total(way: Mapping[Role, _Taken]) -> _Taken:
    total = _Taken()
    for taken in way.values():
        total += taken
    return total


def _taking(tiers: Sequence[Sequence[_Taken]]) -> Taking:
    costs = [[taken.cost_usd for taken in ways if taken.cost_usd is not None] for ways in tiers]
    return Taking(
        calls=_span([[taken.calls for taken in ways] for ways in tiers]),
        prompt_tokens=_span([[taken.prompt for taken in ways] for ways in tiers]),
        completion_tokens=_span([[taken.completion for taken in ways] for ways in tiers]),
        cost_usd=_span(costs, 6) if all(costs) else None,
    )


def _span(tiers: Sequence[Sequence[float]], digits: int | None = None) -> Span:
    """The least of each; a search that its budget stops may expect less than the others' least."""
    low, expected, high = (round(min(ways), digits) for ways in tiers)
    return Span(min(low, expected), min(expected, high), high)


def _seconds(course: Course, settings: Settings, tier: int) -> float:
    """The longest chain of calls that wait for one another, or all calls at full concurrency."""
    latency = {role: _latency(getattr(settings.models, role), tier) for role in ROLES}
    asked = {role: latency[role] if course.calls[role] else 0.0 for role in ROLES}
    chain = (
        asked["rewarder"]
        + course.levels * (asked["target"] + asked["judge"])
        + (course.levels - 1) * asked["rewriter"]
    )
    work = sum(course.calls[role] * latency[role] for role in ROLES)
    return max(chain, work / settings.concurrency)


def _latency(model: object, tier: int) -> float:
    if isinstance(model, SandboxSettings):
        return model.latency_ms / 1000
    return LATENCY_S[tier]


def _uses_list(settings: Settings) -> bool:
    return any(is_listed(getattr(settings.models, role)) for role in ROLES)


class _Questions:
    """The questions of one search, its texts short, usual or long."""

    def __init__(
        self, settings: Settings, context: Context, tier: int, examples: Sequence[Example]
    ) -> None:
        self._examples = examples
        self._settings = settings
        self._context = context
        self._chat = ChatTarget(context.caller, context.templates, settings.models.target.format)
        self._length = LENGTHS[tier]
        self._prompts = self._usual_prompts()
        self._aspects = self._usual_aspects(tier)
        read = min(QUERIES_READ, len(context.order.queries))
        rng = random.Random(f"{settings.seed}:estimate")
        self._queries = rng.sample(list(context.order.queries), read)

    def sizes(self) -> dict[Role, _Size]:
        """Mean tokens of a call of each role."""
        rewriter = self._settings.models.rewriter
        texts = self._settings.search.rewrites if rewriter.multiple else 1
        judge = self._settings.models.judge
        judged = JUDGE_TOKENS * len(self._aspects)
        verdicts = self._settings.judge.samples if judge.multiple else 1
        return {
            "target": _Size(self._mean(self._target), self._reply("target", TARGET_TOKENS)),
            "rewarder": _Size(self._mean(self._rewarder), self._reply("rewarder", REWARDER_TOKENS)),
            "judge": _Size(self._mean(self._judge), self._reply("judge", judged) * verdicts),
            "rewriter": _Size(
                _tokens(self._rewriter()), texts * self._reply("rewriter", REWRITER_TOKENS)
            ),
        }

    def _mean(self, request: Any) -> float:
        return sum(_tokens(request(query)) for query in self._queries) / len(self._queries)

    def _reply(self, role: Role, usual: int) -> float:
        """Tokens of one text, as far as the role may write."""
        most = getattr(self._settings.models, role).max_tokens
        wanted = usual * self._length
        return wanted if most is None else min(wanted, most)

    def _target(self, query: Query) -> Request[Sample]:
        return self._chat.request(self._prompts, query, Place(0, 0, query.ordinal), self._examples)

    def _rewarder(self, query: Query) -> Request[Selection]:
        return select_rewards.request({"level": 0, "query": query.ordinal}, self._context)

    def _judge(self, query: Query) -> Request[Verdict]:
        selection = Selection(self._aspects, "")
        return judge.request(Place(0, 0, query.ordinal), self._sample(), selection, self._context)

    def _rewriter(self) -> Request[Any]:
        shown = islice(cycle(self._queries), self._settings.search.queries_per_level)
        said = Verdict(tuple(Score(at.name, 4.0, _text(self._rationale())) for at in self._aspects))
        evaluations = [Evaluation(0, query.ordinal, self._sample(), said) for query in shown]
        candidate = Candidate(0, 0, None, self._prompts, "root")
        return rewrite.request(
            1, candidate, [self._prompts] * self._ancestors(), evaluations, self._context
        )

    def _sample(self) -> Sample:
        return Sample(_text(self._reply("target", TARGET_TOKENS)))

    def _rationale(self) -> float:
        judged = JUDGE_TOKENS * len(self._aspects)
        return self._reply("judge", judged) / max(1, len(self._aspects))

    def _ancestors(self) -> int:
        """How many earlier prompts a rewrite is shown, on average."""
        search = self._settings.search
        shown = [min(level, search.history) for level in range(search.levels - 1)]
        return round(sum(shown) / len(shown)) if shown else 0

    def _usual_prompts(self) -> Prompts:
        """The root's, grown to the usual length, as far as the guards let them grow."""
        search = self._settings.search
        if search.levels == 1:
            return self._settings.root
        usual = PROMPT_TOKENS * self._length
        usual = min(usual, search.max_prompt_tokens) if search.guards else usual
        length = round(usual * CHARACTERS_PER_TOKEN)
        return {name: text.ljust(length, "x") for name, text in self._settings.root.items()}

    def _usual_aspects(self, tier: int) -> tuple[Aspect, ...]:
        rewards = self._settings.rewards
        names: Sequence[str] = rewards.fixed
        if rewards.kind == "dynamic":
            count = (rewards.fewest, (rewards.fewest + rewards.most + 1) // 2, rewards.most)[tier]
            names = list(islice(cycle(rewards.aspects), count))
        return tuple(Aspect(name, rewards.aspects[name]) for name in names)


def usual_examples(
    examples: Sequence[Example], retrieval: RetrievalSettings, tier: int
) -> tuple[Example, ...]:
    """What a query is shown: the shortest, those of usual length, or the longest."""
    fit = sorted((each for each in examples if not is_too_long(each, retrieval)), key=tokens)
    first = max(0, len(fit) - retrieval.k) * tier // 2
    return fitting(fit[first:], retrieval)


def _text(tokens: float) -> str:
    return "x" * max(1, round(tokens * CHARACTERS_PER_TOKEN))


def _tokens(request: Request[Any]) -> float:
    return sum(len(turn.content) for turn in request.messages) / CHARACTERS_PER_TOKEN
