"""What a search is estimated to take, held against what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import pytest

import drpo
from drpo.estimates import Estimate, estimate_of
from drpo.graph.errors import BadInput
from drpo.graph.values import ROLES, Message, Query, Role
from drpo.kinds import Plan, plan_of
from drpo.settings import compose_settings

QUICK = "search=quick search.levels=10 search.rewrites=3 search.queries_per_level=1"
TEN = (
    "search=quick seed=1",
    "search=quick search.width=3 search.rewrites=4 seed=2",
    "search=quick search.queries_per_level=3 search.levels=6 seed=3",
    "search=quick rewards=static seed=4",
    "search=quick search.levels=15 search.max_extension=0 models.rewriter.multiple=false seed=5",
    "search=greedy seed=6",
    "search=greedy search.levels=20 search.rewrites=5 seed=7",
    "search=greedy search.queries_per_level=2 rewards=static seed=8",
    "search=paper seed=9",
    "search=paper search.width=1 search.levels=12 search.queries_per_level=2 seed=10",
)
CLOSE = 0.25
"""How far the expected calls may be off."""


def estimated(*overrides: str) -> Estimate:
    settings = compose_settings(overrides)
    return estimate_of(settings, plan_of(settings))


def queries(*texts: str) -> list[Query]:
    return [Query(at, str(at), (Message("user", text),)) for at, text in enumerate(texts)]


@dataclass(frozen=True)
class Held:
    """One search: what was estimated, and what it took."""

    before: Estimate
    after: Mapping[str, Any]

    @property
    def calls(self) -> int:
        """New ones, of all roles."""
        return sum(count["new"] for count in self.after["calls"].values())


@pytest.fixture(scope="module", params=TEN)
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Held:
    """One of ten different searches on the sandbox."""
    words = request.param.split()
    found = drpo.optimize_blocking(*words, runs=tmp_path_factory.mktemp("estimated"))
    return Held(estimated(*words), found.summary)


def test_the_expected_calls_are_close(held: Held) -> None:
    """Within a quarter of what the search took."""
    assert held.before.total.calls.expected == pytest.approx(held.calls, rel=CLOSE)


def test_the_highest_calls_are_never_exceeded(held: Held) -> None:
    """By the search, nor by any role of it."""
    assert held.calls <= held.before.total.calls.high
    for role in ROLES:
        assert held.after["calls"][role]["new"] <= held.before.roles[role].calls.high


def test_no_search_takes_fewer_than_the_least(held: Held) -> None:
    """Neither in all, nor of any role."""
    assert held.calls >= held.before.total.calls.low
    for role in ROLES:
        assert held.after["calls"][role]["new"] >= held.before.roles[role].calls.low


def test_the_tokens_lie_between_low_and_high(held: Held) -> None:
    """Prompts and completions."""
    total, took = held.before.total, held.after["tokens"]
    assert total.prompt_tokens.low < took["prompt"] < total.prompt_tokens.high
    assert total.completion_tokens.low < took["completion"] < total.completion_tokens.high


def test_the_estimate_is_kept_with_the_run(held: Held) -> None:
    """As it was made."""
    assert held.after["estimate"] == asdict(held.before)


@pytest.mark.parametrize(
    ("words", "high"),
    [
        # 1 root and 3 rewrites, each answered and judged; 1 request; 2 selections.
        ("experiment=smoke", 2 * 4 + 1 + 2),
        ("experiment=smoke rewards=static", 2 * 4 + 1),
        ("experiment=smoke models.rewriter.multiple=false", 2 * 4 + 3 + 2),
        ("experiment=smoke search.queries_per_level=2", 2 * 2 * 4 + 1 + 2 * 2),
        # The third level is there only because one survivor was skipped.
        ("experiment=smoke search.max_extension=1", 2 * (1 + 3 + 1) + 1 + 3),
        (f"{QUICK} search.levels=3 search.max_extension=0", 2 * (1 + 3 + 6) + 3 + 3),
        (f"{QUICK} search.levels=1", 2 + 1),
        (f"{QUICK} budget.calls=7", 7),
        (f"{QUICK} data.limit=2 search.levels=2", 2 * (1 + 3 + 6 + 6 - 4) + 3 + 2),
        ("search=paper data.limit=2", 2 * (1 + 3) + 1 + 2),
    ],
)
def test_the_highest_is_what_a_search_can_take_and_no_more(words: str, high: int) -> None:
    """Counted by hand."""
    assert estimated(*words.split()).total.calls.high == high


@pytest.mark.parametrize(
    ("words", "low"),
    [
        # A question each to rewarder, target and judge, at ten levels or, with skips, at twelve.
        (f"{QUICK}", 3 * 12),
        ("search=paper", 3 * 20 + 19),
        (f"{QUICK} rewards=static", 2 * 12),
        (f"{QUICK} data.limit=4", 3 * 4),
        (f"{QUICK} search.levels=1", 3),
        (f"{QUICK} budget.calls=7", 7),
    ],
)
def test_the_lowest_skips_or_refuses_everything(words: str, low: int) -> None:
    """Whichever takes fewer calls; a query asked again under the same prompt takes none."""
    assert estimated(*words.split()).total.calls.low == low


@pytest.mark.parametrize("words", [*TEN, "search=quick budget.calls=40", "models=openai"])
def test_low_is_below_expected_is_below_high(words: str) -> None:
    """For every figure of every role."""
    found = estimated(*words.split())
    spans = [found.seconds]
    for taking in (*found.roles.values(), found.total):
        spans += [taking.calls, taking.prompt_tokens, taking.completion_tokens]
        spans += [taking.cost_usd] if taking.cost_usd else []
    assert all(span.low <= span.expected <= span.high for span in spans)


def test_the_roles_add_up() -> None:
    """What is expected of them is what is expected in all."""
    found = estimated("models=openai")
    assert sum(each.calls.expected for each in found.roles.values()) == found.total.calls.expected
    costs = [each.cost_usd.expected for each in found.roles.values() if each.cost_usd]
    assert found.total.cost_usd is not None
    assert sum(costs) == pytest.approx(found.total.cost_usd.expected, rel=1e-3)


@pytest.mark.parametrize(
    ("role", "override"),
    [
        ("target", "root='Mend bicycles. ${rewards.aspects}'"),
        ("rewarder", "rewards.aspects.Wit=It makes one smile."),
        ("judge", "task.description=Mends bicycles."),
        ("rewriter", "root='You are a helpful assistant. [[Never guess.]]'"),
    ],
)
def test_what_a_role_is_told_counts(role: Role, override: str) -> None:
    """The real templates are filled with the run's own settings."""
    plain, more = (found.roles[role].prompt_tokens for found in (estimated(), estimated(override)))
    assert more.expected > plain.expected


def test_longer_queries_are_more_tokens() -> None:
    """For every role that is shown them."""
    settings = compose_settings(["experiment=smoke"])
    short, long = (
        estimate_of(settings, Plan(kind="search", queries=queries("a" * n, "b" * n)))
        for n in (10, 4000)
    )
    for role in ROLES:
        less, more = (each.roles[role] for each in (short, long))
        added = (more.prompt_tokens.expected - less.prompt_tokens.expected) / more.calls.expected
        assert added == pytest.approx(3990 / 4, rel=0.02)


def test_max_tokens_caps_what_a_role_writes() -> None:
    """However long its texts usually are."""
    found = estimated("models.target.max_tokens=50").roles["target"]
    assert found.completion_tokens.high == 50 * found.calls.high


def test_unknown_prices_make_no_dollars() -> None:
    """Of the role, nor in all; the others' stand."""
    found = estimated("models=openai", "models.judge.model=mine")
    assert found.roles["judge"].cost_usd is None
    assert found.total.cost_usd is None
    assert found.roles["target"].cost_usd is not None


def test_a_role_that_is_never_asked_costs_nothing() -> None:
    """Even where its price is unknown."""
    found = estimated("models=openai", "rewards=static", "models.rewarder.model=mine")
    assert found.total.cost_usd is not None


def test_an_estimate_by_the_list_says_how_old_it_is() -> None:
    """And only that one."""
    own = [f"models.{role}.price_{way}=1" for role in ROLES for way in ("in", "out")]
    assert estimated("models=openai").prices_at is not None
    assert estimated("models=openai", *own).prices_at is None
    assert estimated().prices_at is None


def test_the_seconds_are_those_of_the_longest_chain() -> None:
    """One selection, then answer and verdict at each level, and a rewrite between them."""
    slow = [f"models.{role}.latency_ms=1000" for role in ROLES]
    found = estimated("experiment=smoke", *slow, "concurrency=100")
    assert found.seconds.high == 1 + 2 * 2 + 1


def test_one_call_at_a_time_takes_the_time_of_all() -> None:
    """Less concurrency never makes it faster."""
    slow = [f"models.{role}.latency_ms=1000" for role in ROLES]
    found = [estimated(*slow, f"concurrency={n}").seconds.high for n in (1, 2, 4, 100)]
    assert found[0] == estimated().total.calls.high
    assert all(more >= less for more, less in pairwise(found))


@pytest.mark.parametrize(
    "words",
    [("search.queries_per_level=3",), ("root={planner: plan}", "search.queries_per_level=1")],
)
def test_what_cannot_run_cannot_be_estimated(words: tuple[str, ...]) -> None:
    """Bad input, as for the search itself."""
    with pytest.raises(BadInput):
        estimate_of(compose_settings(words), Plan(kind="search", queries=queries("a", "b")))


def test_from_python_without_a_key_and_with_own_queries() -> None:
    """Two queries last paper's search two levels."""
    found = drpo.estimate("models=openai", "search=paper", queries=["Why?", "How?"])
    assert found.total.calls.high == 27
    assert isinstance(found, drpo.Estimate)
