"""The search of one example: the candidate is the answer, through the real graph."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedCaller

from drpo.checkpoints.runs import create_run
from drpo.checkpoints.store import RunStore, open_store
from drpo.conf.schema import ExamplesSettings, Settings
from drpo.example_searches import example_context, example_search
from drpo.graph.build import build_search, initial_state
from drpo.graph.context import Caller, Context, Place
from drpo.graph.state import SearchState
from drpo.graph.values import Candidate, Evaluation, Message, Query, Sample, Score, Verdict
from drpo.nodes.identity import IdentityTarget
from drpo.nodes.rewrite import request
from drpo.parts import context_for
from drpo.settings import compose_settings

QUERIES = [Query(n, f"q{n}", (Message("user", f"question {n}"),)) for n in range(3)]
ASKED = QUERIES[1]
BASE = "Bake it for an hour."
FAR = 3_000_000
"""Where the candidates of another search of the run begin."""


def answering(text: str) -> str:
    """A rewriter's reply."""
    return json.dumps({"analysis": "so", "prompts": {"answer": text}})


def by_round(*scores: float | str) -> Callable[[int, int], float | str]:
    """Of the base answer, then of each candidate after it."""
    return lambda candidate, _: scores[candidate % FAR]


def rewriting_by_round(_: int, item: int) -> str:
    """A rewriter's reply."""
    return answering(f"Answer of round {item + 1}.")


def asking(
    *scores: float | str, rewrites: Callable[[int, int], str] = rewriting_by_round
) -> ScriptedCaller:
    """A caller that scores so."""
    return ScriptedCaller(by_round(*scores), rewrites)


@dataclass(frozen=True)
class Found:
    """A finished example search; candidates and answer are counted from its root."""

    answer: int
    candidates: list[Candidate]
    rewards: list[float | None]
    decisions: list[tuple[int, str, str]]
    """Level, action and reason."""

    @property
    def texts(self) -> list[str]:
        """The answers, in the order they came."""
        return [each.prompts["answer"] for each in self.candidates]


def context_of(
    settings: Settings, caller: Caller, store: RunStore | Any, rounds: int = 5
) -> Context:
    """Of the search of one example in a run with other queries."""
    whole = context_for(settings, QUERIES, caller, store)
    return example_context(whole, ExamplesSettings(rounds=rounds), ASKED, BASE)


async def searched(
    caller: ScriptedCaller, folder: Path, *, root: int = 0, rounds: int = 5
) -> Found:
    """The whole search of one example, its candidates numbered from `root` on."""
    settings = compose_settings(["search.queries_per_level=1"])
    run = create_run(
        folder,
        settings=settings.model_dump_json(),
        fingerprint={},
        queries=QUERIES,
        version="test",
    )
    async with open_store(run.path) as store, asyncio.timeout(60):
        context = context_of(settings, caller, store, rounds)
        start: SearchState = {
            **initial_state(context.search),
            "first_candidate": root,
            "next_candidate": root,
        }
        state = await build_search(store.saver).ainvoke(
            start,
            {"configurable": {"thread_id": run.id}, "recursion_limit": 1_000},
            context=context,
            durability="sync",
        )
        ids = range(root, state["next_candidate"])
        rows = await store.read("select level, action, reason from decision order by level")
        return Found(
            state["answer"] - root,
            await store.candidates(ids),
            [at.reward for at in await store.standings(ids)],
            [(level, action, reason) for level, action, reason in rows],
        )


@pytest.mark.parametrize("root", [0, FAR])
async def test_an_example_search_returns_the_best_of_its_rounds(root: int, tmp_path: Path) -> None:
    """By reward, with any number for its root; a worse answer is not rewritten."""
    found = await searched(asking(2, 3, 1, 4, 3, 2), tmp_path, root=root)
    assert found.rewards == [2, 3, 1, 4, 3, 2]
    assert found.answer == 3
    assert found.texts == [BASE, *(f"Answer of round {n}." for n in range(1, 6))]
    parents = [each.parent for each in found.candidates]
    assert [each and each - root for each in parents] == [None, 0, 1, 1, 3, 3]
    assert [each.id for each in found.candidates] == list(range(root, root + 6))


@pytest.mark.parametrize("root", [0, FAR])
async def test_nobody_but_rewarder_judge_and_rewriter_is_asked(root: int, tmp_path: Path) -> None:
    """The rewarder once: the query is the same at every level."""
    caller = asking(2, 3, 1, 4, 3, 2)
    await searched(caller, tmp_path, root=root)
    roles = {role: len(caller.of(role)) for role in ("target", "rewarder", "judge", "rewriter")}
    assert roles == {"target": 0, "rewarder": 1, "judge": 6, "rewriter": 5}
    assert {asked.query for asked in caller.of("judge")} == {ASKED.ordinal}


async def test_of_equal_answers_the_newest_is_kept(tmp_path: Path) -> None:
    """Also at the end."""
    found = await searched(asking(3, 3, 3), tmp_path, rounds=2)
    assert found.answer == 2
    assert [each.parent for each in found.candidates] == [None, 0, 1]


@pytest.mark.parametrize(("scores", "answer"), [((5,), 0), ((2, 4, 5), 2)])
async def test_a_perfect_answer_ends_the_search(
    scores: tuple[float, ...], answer: int, tmp_path: Path
) -> None:
    """Without a skip, be it the base answer itself."""
    caller = asking(*scores)
    found = await searched(caller, tmp_path)
    assert (found.answer, len(found.candidates)) == (answer, len(scores))
    assert len(caller.of("rewriter")) == len(scores) - 1
    assert "skipped" not in [action for _, action, _ in found.decisions]


async def test_an_answer_that_cannot_be_judged_replaces_nothing(tmp_path: Path) -> None:
    """And does not pause the run: here it is a whole level."""
    found = await searched(asking(2, "N/A", 3, "N/A"), tmp_path, rounds=3)
    assert found.rewards == [2, None, 3, None]
    assert found.answer == 2


async def test_a_search_of_which_nothing_can_be_judged_keeps_the_base_answer(
    tmp_path: Path,
) -> None:
    """Nothing speaks for a rewrite."""
    found = await searched(asking("N/A", "N/A", "N/A"), tmp_path, rounds=2)
    assert (found.answer, found.rewards) == (0, [None, None, None])


async def test_a_refused_rewrite_is_asked_for_again_as_another_one(tmp_path: Path) -> None:
    """The ledger would repeat itself for the same question with the same sample index."""
    links = answering("See https://spam.example for more.")
    caller = asking(2, 2, 3, rewrites=lambda _, item: links if item == 0 else answering("Better."))
    found = await searched(caller, tmp_path, rounds=2)
    assert found.texts == [BASE, BASE, "Better."]
    assert [asked.sample for asked in caller.of("rewriter")] == [0, 1]
    assert any(action == "refused" and "address" in why for _, action, why in found.decisions)


async def test_the_rewriter_sees_what_did_no_better(tmp_path: Path) -> None:
    """The last of them; what the current answer came from is not among them."""
    caller = asking(1, 3, 2, 2, 2, 2)
    await searched(caller, tmp_path)
    asked = [each.messages[1].content for each in caller.of("rewriter")]
    rounds = [[n for n in range(1, 6) if f"Answer of round {n}." in text] for text in asked]
    assert rounds == [[], [1], [1, 2], [1, 2, 3], [1, 3, 4]]
    assert "<earlier-" not in asked[1]


async def test_decisions_speak_of_rewards(tmp_path: Path) -> None:
    """Path values mean nothing here."""
    found = await searched(asking(3, 2), tmp_path, rounds=1)
    assert [(level, why) for level, action, why in found.decisions if action != "root"] == [
        (0, "rank 1 by reward 3"),
        (1, "reward 2; candidate 0 has 3"),
        (1, "best reward among the candidates to choose from"),
    ]


async def test_the_identity_gives_the_candidate_back() -> None:
    """Whatever the query, without a call."""
    said = await IdentityTarget().run({"answer": BASE}, ASKED, Place(0, 0, ASKED.ordinal))
    assert (said.value, said.calls) == (Sample(BASE), ())


async def test_an_answer_is_shown_with_its_query_and_verdict() -> None:
    """In fences, with the description of the task and the cap of the guards."""
    settings = compose_settings(["task.description=A bakery.", "search.queries_per_level=1"])
    context = context_of(settings, asking(), None)
    verdict = Verdict((Score("Depth", 2.0, "It never says why."), Score("Wit", None, "")))
    judged = Evaluation(0, ASKED.ordinal, Sample(BASE), verdict)
    root = Candidate(0, 0, None, context.root, "root")
    asked = request(1, root, (), [judged], context)
    text = asked.messages[1].content
    for shown in ("A bakery.", ASKED.text, BASE, "Depth: 2 of 5", "It never says why."):
        assert shown in text
    assert "Wit: not scored" in text
    assert "never longer than 1000 tokens" in text
    assert asked.schema is not None
    assert asked.schema["properties"]["prompts"]["required"] == ["answer"]


def test_an_example_search_has_the_rounds_of_the_settings() -> None:
    """The root's level is none of them."""
    assert example_search(ExamplesSettings(rounds=3)).levels == 4
