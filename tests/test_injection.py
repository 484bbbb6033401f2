"""Planted instructions and a gullible judge and rewriter: what the fence is for (FAULTS I1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.injection import (
    ON_JUDGE,
    ON_REWRITER,
    Attack,
    Ground,
    ground,
    interval,
    on_judge,
    on_rewriter,
    without_fences,
)

QUERIES = 2
SEEDS = 2


@pytest.fixture(scope="module")
def fenced() -> Ground:
    return ground(QUERIES)


@pytest.fixture(scope="module")
def unfenced(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The same templates, every text as it is."""
    return ground(QUERIES, without_fences(tmp_path_factory.mktemp("words")))


def named(attack: Attack) -> str:
    return f"{attack.where}-{attack.name}"


@pytest.mark.parametrize("attack", ON_JUDGE, ids=named)
def test_i1_no_planted_text_moves_the_judge(
    attack: Attack, fenced: Ground, unfenced: Ground
) -> None:
    """Every one of them moves it where there is no fence."""
    assert on_judge(unfenced, attack, SEEDS, 0.0).moved == QUERIES * SEEDS
    assert on_judge(fenced, attack, SEEDS, 0.0).moved == 0


@pytest.mark.parametrize("attack", ON_REWRITER, ids=named)
def test_i1_no_planted_text_reaches_a_rewrite(
    attack: Attack, fenced: Ground, unfenced: Ground
) -> None:
    """Every one of them does where there is no fence."""
    assert on_rewriter(unfenced, attack, SEEDS, 0.0).moved == QUERIES * SEEDS
    assert on_rewriter(fenced, attack, SEEDS, 0.0).moved == 0


def test_i1_a_model_that_obeys_inside_the_fence_is_moved(fenced: Ground) -> None:
    """So the zero above is the fence's, and not that of a model that cannot read the attacks."""
    assert all(on_judge(fenced, attack, 1, 1.0).moved for attack in ON_JUDGE)
    assert all(on_rewriter(fenced, attack, 1, 1.0).moved for attack in ON_REWRITER)
    some = [on_judge(fenced, attack, 5, 0.2) for attack in ON_JUDGE]
    low, high = interval(sum(each.moved for each in some), sum(each.tried for each in some))
    assert low < 0.2 < high


def test_i1_what_nobody_planted_moves_nobody(fenced: Ground, unfenced: Ground) -> None:
    """No query of ours is taken for an instruction."""
    for where in (fenced, unfenced):
        assert on_judge(where, None, SEEDS, 1.0).moved == 0
        assert on_rewriter(where, None, SEEDS, 1.0).moved == 0


def test_what_gets_past_the_fence_meets_the_guards(unfenced: Ground) -> None:
    """Addresses, variables, words to the judge and very long texts are refused by `admit`."""
    past = {attack.name: on_rewriter(unfenced, attack, 1, 0.0).past for attack in ON_REWRITER}
    for name in ("address", "variable", "word to the judge", "very long sentence"):
        assert past[name] == 0
    assert past["plain order"]


def test_the_unfenced_templates_are_the_shipped_ones(tmp_path: Path) -> None:
    """But for the fences."""
    for path in without_fences(tmp_path).glob("*.jinja"):
        assert "fence" not in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("moved", "tried", "low", "high"), [(0, 100, 0.0, 0.037), (50, 100, 0.404, 0.596)]
)
def test_the_interval_is_wilsons(moved: int, tried: int, low: float, high: float) -> None:
    """Also at the ends, where others have no width."""
    assert interval(moved, tried) == pytest.approx((low, high), abs=0.001)
