from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from planted import Planted, plant
from scripted import ScriptedCaller, searched

import drpo
from drpo.analysis.grouping import grouped, in_turn, stems, telling
from drpo.analysis.intervals import difference_interval, mean_interval, share_interval
from drpo.checkpoints.runs import create_run, run_paths
from drpo.graph.values import mean
from drpo.insights import insights
from drpo.settings import compose_settings

TREE = [
    Planted(0, None, "Help.", {0: {"Empathy": 2.0, "Clarity": 5.0}}),
    Planted(1, 0, "Help. Be warm.", {1: {"empathy": 4.0, "Clarity": 5.0}}),
    Planted(1, 0, "Help. Be quick.", {1: {"Empathy": 2.0, "Clarity": 3.0}}),
    Planted(2, 1, "Help. Be warm.", {2: {"Em pathy": 5.0, "Clarity": "N/A"}}, "skip"),
]
"""Empathy by query: 2; 4 and 2; 5. Clarity: 5; 5 and 3; unscored."""


async def found(folder: Path, tree: list[Planted] = TREE, best: int = 3) -> dict[str, Any]:
    """Of one planted run."""
    [run] = insights([await plant(folder, tree, best=best)])["runs"]
    return dict(run)


def aspect(run: Mapping[str, Any], key: str) -> dict[str, Any]:
    return next(dict(each) for each in run["aspects"] if each["key"] == key)


async def test_aspects_are_averaged_per_query_first(tmp_path: Path) -> None:
    """Means 2, 3, 5 and shares 1, 1/2, 0 of the queries; one name however it is written."""
    run = await found(tmp_path)
    told = aspect(run, "empathy")
    assert [each["key"] for each in run["aspects"]] == ["empathy", "clarity"]
    assert told["aspect"] == "Empathy"
    assert told["all"]["mean"] == pytest.approx(10 / 3)
    assert told["all"]["low_share"] == pytest.approx(0.5)
    assert (told["all"]["queries"], told["all"]["scores"], told["all"]["low"]) == (3, 4, 2)
    # Wilson for half of three queries.
    assert told["all"]["low_share_interval"] == pytest.approx([0.1253, 0.8747], abs=1e-3)
    assert told["all"]["mean_interval"] is None


async def test_root_and_path_are_apart(tmp_path: Path) -> None:
    """The root is not on the path."""
    told = aspect(await found(tmp_path), "empathy")
    assert (told["root"]["mean"], told["root"]["queries"]) == (2.0, 1)
    assert (told["path"]["mean"], told["path"]["queries"]) == (4.5, 2)


async def test_unscored_is_no_low_score(tmp_path: Path) -> None:
    """It is counted apart, by aspect and by verdict."""
    tree = [*TREE, Planted(2, 1, "Hm.", {2: {}})]
    run = await found(tmp_path, tree)
    clarity = aspect(run, "clarity")
    assert (clarity["all"]["unscored"], clarity["all"]["scores"]) == (1, 3)
    assert clarity["all"]["mean"] == 4.5
    assert run["unscored"] == [{"reason": "not JSON", "verdicts": 1}]
    assert run["verdicts"] == 5


async def test_intervals_are_those_of_student(tmp_path: Path) -> None:
    """Five queries at 1 to 5: 3 and 2.776 times 0.7071, cut at the ends of the scale."""
    said: dict[int, dict[str, Any]] = {n: {"Depth": float(n + 1)} for n in range(5)}
    run = await found(tmp_path, [Planted(0, None, "Help.", said)], best=0)
    assert aspect(run, "depth")["all"]["mean_interval"] == pytest.approx([1.037, 4.963], abs=1e-3)


async def test_rationales_are_grouped_by_what_they_say(tmp_path: Path) -> None:
    """Not by what they are about: two texts of two queries are one group, the odd one another."""
    missing = "The answer about {} does not acknowledge its own limitations"
    said: dict[int, dict[str, Any]] = {
        0: {"Depth": (2.0, missing.format("Docker"))},
        1: {"Depth": (3.0, missing.format("Maya ruins"))},
        2: {"Depth": (1.0, "Repetitive stanzas bore every reader quickly")},
        3: {"Depth": (5.0, missing.format("tea"))},
    }
    run = await found(tmp_path, [Planted(0, None, "Help.", said)], best=0)
    told = aspect(run, "depth")["rationales"]
    assert told["grouped"] == 3
    assert [(each["scores"], each["queries"], each["query"]) for each in told["groups"]] == [
        (2, 2, "q0"),
        (1, 1, "q2"),
    ]


async def test_hard_queries_stay_low_in_spite_of_the_search(tmp_path: Path) -> None:
    """Query 1 has rewards 4.5 and 2.5; query 0 was only asked of the root; query 2 is easy."""
    [hard] = (await found(tmp_path))["hard"]
    assert (hard["query"], hard["mean"], hard["best"], hard["candidates"]) == ("q1", 3.5, 4.5, 2)
    assert hard["weakest"] == {"aspect": "empathy", "mean": 3.0}


async def test_instructions_are_held_against_siblings(tmp_path: Path) -> None:
    """The root was low in empathy: who was told to be warm led its sibling by two."""
    tree = [
        Planted(0, None, "Help.", {0: {"Warmth": (2.0, "There is no warmth")}}),
        Planted(1, 0, "Help. Show warmth.", {1: {"Warmth": 4.0}}),
        Planted(1, 0, "Help. Count sheep.", {1: {"Warmth": 2.0}}),
        Planted(1, 0, "Help. Show  warmth.", {2: {"Other": 4.0}}),
    ]
    told = aspect(await found(tmp_path, tree, best=1), "warmth")["answered"]
    assert {name: told[name] for name in ("children", "parents", "scored", "before", "after")} == {
        "children": 3,
        "parents": 1,
        "scored": 2,
        "before": 2.0,
        "after": 3.0,
    }
    [one] = told["instructions"]
    assert (one["text"], one["children"], one["scored"]) == ("Show warmth.", 2, 1)
    assert (one["after"], one["lead"], one["compared"], one["in_best"]) == (4.0, 2.0, 1, True)


async def test_runs_are_held_against_the_first(tmp_path: Path) -> None:
    """On the aspects that they share; what one alone has is not among them."""
    other = [Planted(0, None, "Help.", {0: {"EMPATHY": 4.0, "Depth": 1.0}})]
    paths = [await plant(tmp_path, tree, best=0) for tree in (TREE, other)]
    told = insights(paths)
    [row] = told["shared"]
    assert row["key"] == "empathy"
    assert [each and each["mean"] for each in row["runs"]] == pytest.approx([10 / 3, 4.0])
    [difference] = row["differences"]
    assert difference
    assert difference["mean"] == pytest.approx(2 / 3)
    assert difference["interval"] is None
    assert any("differ in queries and in the aspects" in each for each in told["cautions"])


async def test_other_judges_are_named(tmp_path: Path) -> None:
    """Whose scores are not the same thing."""
    models = ("models=openai", "models.target.model=t", "models.judge.model=other")
    paths = [await plant(tmp_path, TREE), await plant(tmp_path, TREE, *models)]
    assert "other" in insights(paths)["cautions"][-1]


def test_a_run_that_has_nothing_yet(tmp_path: Path, here: Here) -> None:
    """It is shown as such."""
    settings = compose_settings([]).model_dump_json()
    made = create_run(
        tmp_path / "runs", settings=settings, fingerprint={}, queries=[], version="test"
    )
    [run] = insights([made.path])["runs"]
    assert (run["verdicts"], run["aspects"], run["hard"]) == (0, [], [])
    assert "Nothing of it was judged yet." in here("show", "--view", "insights").stdout


async def test_a_run_in_which_nothing_is_scored(tmp_path: Path) -> None:
    """Every aspect is there, without a figure."""
    run = await found(tmp_path, [Planted(0, None, "Help.", {0: {"Depth": "N/A"}})], best=0)
    told = aspect(run, "depth")
    assert (told["all"]["mean"], told["all"]["low_share"], told["all"]["unscored"]) == (
        None,
        None,
        1,
    )
    assert told["rationales"]["groups"] == []
    assert run["hard"] == []


async def test_a_real_search_is_added_up(tmp_path: Path) -> None:
    """Of its two chosen aspects one is scored 2 and the other never."""
    await searched(ScriptedCaller(lambda *_: 2), tmp_path, queries=3)
    [run] = insights(list(run_paths(tmp_path)))["runs"]
    clarity, depth = aspect(run, "clarity")["all"], aspect(run, "depth")["all"]
    assert (clarity["mean"], clarity["queries"], clarity["low_share"]) == (2.0, 3, 1.0)
    assert depth["scores"] == 0
    assert depth["unscored"] == clarity["scores"]


def test_an_alignment_is_about_its_prompt_search(tmp_path: Path, here: Here) -> None:
    """Searches for examples and arms are left out, and it is said how much that is."""
    small = ("data.limit=40", "search=greedy", "search.levels=2", "search.queries_per_level=1")
    done = drpo.align_blocking(
        *small, "examples.limit=2", "examples.rounds=1", runs=tmp_path / "runs"
    )
    [run] = insights([done.path])["runs"]
    assert 0 < run["verdicts"] < run["left_out"]
    said = here("show", "--view", "insights").stdout
    assert "of the search for the prompt" in said
    assert "and of validation" in said


async def test_text_and_json_are_readable_and_harmless(tmp_path: Path, here: Here) -> None:
    """Eighty columns, no escape sequence, no markup; the JSON has all of a rationale."""
    evil = "\x1b[2Jred [bold]x[/bold] \u202e" + "word " * 100
    tree = [
        Planted(0, None, "Help.", {0: {"De\x1bpth": (1.0, evil)}}),
        Planted(1, 0, f"Help. {evil}", {1: {"De\x1bpth": (1.0, evil)}}),
    ]
    await plant(tmp_path / "runs", tree, texts=[evil, evil], best=1)
    said = here("show", "--view", "insights")
    assert said.returncode == 0, said.stderr
    assert "\x1b" not in said.stdout
    assert "\u202e" not in said.stdout
    assert "[bold]x[/bold]" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80
    told = json.loads(here("show", "--view", "insights", "--json").stdout)
    assert told["runs"][0]["aspects"][0]["rationales"]["groups"][0]["text"] == evil


async def test_several_runs_are_named_on_the_command_line(tmp_path: Path, here: Here) -> None:
    """Other views take one."""
    paths = [await plant(tmp_path / "runs", TREE, best=3) for _ in range(2)]
    names = [path.stem[:8] for path in paths]
    assert "Side by side" in here("show", *names, "--view", "insights").stdout
    assert here("show", *names).returncode == 2


def queries_of(rng: random.Random, count: int) -> list[list[float]]:
    """Scores of six answers to each query, which differ more between queries than within."""
    levels = [rng.choices((2, 3, 4, 5), (1, 2, 3, 3))[0] for _ in range(count)]
    return [
        [min(5.0, max(1.0, float(at + rng.choice((-1, 0, 0, 1))))) for _ in range(6)]
        for at in levels
    ]


def test_intervals_hold_what_they_promise() -> None:
    """On clustered scores 95 % of them hold the truth; those over answers would not."""
    rng = random.Random("coverage")
    many = queries_of(rng, 40_000)
    truth = mean(mean(each) or 0.0 for each in many) or 0.0
    low = mean(mean(float(value < 4) for value in each) or 0.0 for each in many) or 0.0
    hits, naive, shares, tried = 0, 0, 0, 2_000
    for _ in range(tried):
        said = queries_of(rng, 12)
        of_queries = mean_interval([mean(each) or 0.0 for each in said])
        of_answers = mean_interval([value for each in said for value in each])
        share = mean(mean(float(value < 4) for value in each) or 0.0 for each in said) or 0.0
        of_share = share_interval(share, len(said))
        assert of_queries is not None and of_answers is not None and of_share is not None  # noqa: PT018 - for the type checker
        hits += of_queries.low <= truth <= of_queries.high
        naive += of_answers.low <= truth <= of_answers.high
        shares += of_share.low <= low <= of_share.high
    assert 0.935 <= hits / tried <= 0.965
    assert shares / tried >= 0.935
    assert naive / tried < 0.75


def test_the_interval_of_a_difference_holds_what_it_promises() -> None:
    """Where there is none, it leaves 0 out once in twenty."""
    rng = random.Random("difference")
    outside = 0
    for _ in range(2_000):
        mine, others = ([mean(each) or 0.0 for each in queries_of(rng, n)] for n in (8, 20))
        found = difference_interval(mine, others)
        assert found is not None
        outside += not found.low <= 0 <= found.high
    assert 0.03 <= outside / 2_000 <= 0.065


def test_too_little_has_no_interval() -> None:
    """Four queries, or equal ones, or none."""
    assert mean_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert mean_interval([4.0] * 10) is None
    assert share_interval(0.0, 0) is None
    assert difference_interval([4.0] * 9, [5.0] * 9) is None


def test_groups_and_turns_are_deterministic() -> None:
    """Of nothing there are none; every text is in one; each thing gets its turn."""
    texts = ["it lacks depth here", "it lacks depth there", "too long by far", "it lacks depth"]
    groups = grouped(texts, [0, 1, 2, 3])
    assert sorted(at for group in groups for at in group.members) == [0, 1, 2, 3]
    assert groups == grouped(texts, [0, 1, 2, 3])
    assert grouped([], []) == []
    assert in_turn([7, 7, 7, 8, 9], 3) == [0, 3, 4]


def test_words_tell_of_what_alone_uses_them() -> None:
    """What is said of every aspect tells of none."""
    found = telling({"depth": ["the answer is shallow"], "warmth": ["the answer is cold"]})
    assert found["depth"]["shallo"] > found["depth"]["answer"]
    assert "cold" not in found["depth"]
    assert stems("Engaging engagement!") == {"engagi", "engage"}
