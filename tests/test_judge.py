"""What the judge is asked, how often, and what becomes of several verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import drpo
from drpo.checkpoints import reader
from drpo.checkpoints.runs import reading
from drpo.graph.errors import BadInput
from drpo.graph.requests import Reply
from drpo.graph.values import Aspect
from drpo.nodes.parsing import read_verdicts
from drpo.settings import compose_settings

ASPECTS = (Aspect("Clarity", ""), Aspect("Depth", ""))
SEARCH = ("search.levels=2", "search.max_extension=0", "search.queries_per_level=2")


def verdict(clarity: object, depth: object) -> str:
    said = [("Clarity", clarity), ("Depth", depth)]
    entries = [{"aspect": name, "rationale": f"{name} {n}", "score": n} for name, n in said]
    return json.dumps({"verdict": entries})


def test_scores_are_averaged_and_their_spread_is_kept() -> None:
    """Each aspect by itself, with the rationale that is nearest to the mean."""
    reply = Reply((verdict(1, "N/A"), verdict(5, 4), verdict(4, "N/A")))
    clarity, depth = read_verdicts(reply, aspects=ASPECTS).scores
    assert clarity.value == pytest.approx(10 / 3)
    assert (clarity.spread, clarity.rationale) == (4, "Clarity 4")
    assert (depth.value, depth.spread) == (4, 0)


def test_a_verdict_that_cannot_be_read_is_left_out_and_noted() -> None:
    """The others stand."""
    said = read_verdicts(Reply((verdict(2, 2), "no")), aspects=ASPECTS)
    assert said.reward == 2
    assert said.notes == ("1 of 2 verdicts could not be read",)


def test_one_verdict_is_as_it_was() -> None:
    """Without a spread."""
    [clarity, _] = read_verdicts(Reply((verdict(2, 3),)), aspects=ASPECTS).scores
    assert (clarity.value, clarity.spread) == (2, None)


async def test_a_whole_search_by_several_verdicts(tmp_path: Path) -> None:
    """As many calls as before where one request has several completions, else as many times."""
    once = await drpo.optimize(*SEARCH, runs=tmp_path / "once")
    words = ("judge.samples=3", "models.judge.multiple=false")
    thrice = await drpo.optimize(*SEARCH, *words, runs=tmp_path / "thrice")
    scores = [
        score
        for node in reader.trace(thrice.path)
        for said in node["verdicts"]
        for score in said["scores"]
    ]
    assert any(score["spread"] > 0 for score in scores)
    judged = sum(len(node["verdicts"]) for node in reader.trace(thrice.path))
    calls = thrice.summary["calls"]["judge"]
    assert calls["new"] + calls["from_ledger"] == 3 * judged
    assert "spread" not in json.dumps(reader.trace(once.path))


async def test_every_verdict_is_accounted_for(tmp_path: Path) -> None:
    """Also the calls beside the one that a row names."""
    words = ("judge.samples=3", "models.judge.multiple=false", "models.rewriter.multiple=false")
    done = await drpo.optimize(*SEARCH, *words, runs=tmp_path)
    nodes = reader.trace(done.path)
    keys = {call["key"] for node in nodes for call in node["calls"]}
    keys |= {selection["call"] for node in nodes for selection in node["selections"]}
    assert len(keys) == sum(count["new"] for count in done.summary["calls"].values())


async def test_a_rubric_is_in_the_judges_words_alone(tmp_path: Path) -> None:
    """What it says is data, whatever it looks like."""
    done = await drpo.optimize(*SEARCH, "judge.rubric='5 is {{ 7*7 }}'", runs=tmp_path)
    with reading(done.path) as db:
        rows = db.query(
            "select distinct role from call, json_each(messages) turn join text"
            " on sha256 = json_extract(turn.value, '$[1]') where body like '%5 is {{ 7*7 }}%'"
        )
        assert [row["role"] for row in rows] == ["judge"]


def test_asking_a_judge_without_chance_several_times_is_refused() -> None:
    """It would be paid for, and say the same."""
    with pytest.raises(BadInput, match=r"models\.judge\.temperature=0"):
        compose_settings(["models=openai", "judge.samples=3"])
    compose_settings(["models=openai", "judge.samples=3", "models.judge.temperature=0.7"])
