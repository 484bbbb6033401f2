"""The simulated rewriter of answers: what it sees, what each dial does, and what comes of it."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Mapping, Sequence

import pytest
from sandboxes import (
    KNOWN,
    answer_of,
    chat,
    evaluation,
    judging,
    rewriting,
    rewriting_answer,
    sandbox,
    texts_of,
)

from drpo.graph.requests import Reply
from drpo.graph.values import Aspect, Message, Score
from drpo.models.sandbox.language import needs_of, parts_in
from drpo.models.sandbox.queries import queries
from drpo.models.sandbox.rewriter import DIALS as KINDS
from drpo.models.sandbox.rewriter import Rewriter
from drpo.models.sandbox.server import role_of
from drpo.models.sandbox.truth import truth
from drpo.models.sandbox.world import dials
from drpo.nodes.parsing import read_rewrites, read_verdict

TRAIN = queries("train")
DRAFT = answer_of("gist", "padding")


def only(kind: str) -> Rewriter:
    return Rewriter(dict.fromkeys(KINDS, 0.0) | {kind: 1.0})


def blaming(*parts: str, score: float = 2.0) -> list[Score]:
    return [
        Score("Helpfulness", score, f"(simulated) {KNOWN.parts[part].lacks[0].capitalize()}.")
        for part in parts
    ]


def answer_in(text: str) -> str | None:
    """None where it cannot be read."""
    [said] = read_rewrites(Reply((text,)), names=("answer",), current={"answer": DRAFT})
    return None if said.prompts is None else said.prompts["answer"]


def rewritten(
    kind: str | Mapping[str, float], scores: Sequence[Score], seed: int = 0, draft: str = DRAFT
) -> str | None:
    rewriter = only(kind) if isinstance(kind, str) else Rewriter(kind)
    messages = rewriting_answer(TRAIN[0], draft, scores)
    return answer_in(rewriter.answer(messages, random.Random(seed)))


@pytest.mark.parametrize("seed", range(10))
def test_it_adds_what_a_rationale_misses_and_takes_out_what_it_blames(seed: int) -> None:
    """One thing or two, with their marks; the rest stays."""
    answer = rewritten("helpful", blaming("steps", "padding"), seed)
    assert answer is not None
    found = set(parts_in(answer))
    assert "gist" in found
    assert found <= {"gist", "padding", "steps"}
    assert ("steps" in found) or ("padding" not in found)
    assert "\n\n" not in answer


def test_it_looks_at_low_scores_first() -> None:
    """What is blamed in an aspect that did well is left for later."""
    scores = [*blaming("steps"), *blaming("reasons", score=4.0)]
    for seed in range(10):
        answer = rewritten("helpful", scores, seed)
        assert answer is not None
        assert parts_in(answer) == ("gist", "padding", "steps")


@pytest.mark.parametrize("scores", [[], blaming("gist"), [Score("Depth", None, "", "N/A")]])
def test_it_rewords_where_nothing_is_to_be_done(scores: list[Score]) -> None:
    """Also what is said to be missing and is there."""
    answer = rewritten("helpful", scores)
    assert answer is not None
    assert answer != DRAFT
    assert parts_in(answer) == parts_in(DRAFT)


def test_each_dial_does_its_own() -> None:
    """Neutral keeps the parts, harmful makes it worse, off adds something or cannot be read."""
    answers = {
        kind: [rewritten(kind, blaming("steps"), seed) for seed in range(40)] for kind in KINDS
    }
    kinds = {
        kind: [parts_in(text) for text in texts if text is not None]
        for kind, texts in answers.items()
    }
    assert None not in answers["neutral"] + answers["harmful"] + answers["helpful"]
    assert 5 < answers["off"].count(None) < 35
    assert set(kinds["neutral"]) == {("gist", "padding")}
    flaws = {name for name, part in KNOWN.parts.items() if part.flaw}
    assert all("gist" not in found or len(flaws & {*found}) == 2 for found in kinds["harmful"])
    assert all(len(found) == 3 and len(flaws & {*found}) == 1 for found in kinds["off"])


def test_it_sees_its_messages_alone() -> None:
    """An answer without marks, as a person may have written it, gains and loses nothing else."""
    own = "Dear customer, we close at six. [Really.]"
    answer = rewritten("helpful", blaming("steps", "padding"), draft=own)
    assert answer is not None
    assert answer.startswith(f"{own}\n[steps] ")
    assert rewritten("neutral", [], draft=own) == own


async def test_its_answers_are_the_same_every_time() -> None:
    """And others for another sample index."""
    messages = rewriting_answer(TRAIN[0], DRAFT, blaming("steps", "reasons", "plain"))
    first = await texts_of(sandbox("rewriter"), messages, n=6)
    assert first == await texts_of(sandbox("rewriter"), messages, n=6)
    assert len(set(first)) > 1


def test_who_is_asked_is_told_apart() -> None:
    """By the served sandbox, which has one model for every role."""
    scores = blaming("steps")
    assert role_of(rewriting_answer("Why?", DRAFT, scores, ["Because."])) == "rewriter"
    assert role_of(rewriting({"system": "Help."}, [evaluation("Why?", DRAFT, scores)])) == (
        "rewriter"
    )
    assert role_of(judging("Why?", DRAFT)) == "judge"


def test_what_was_tried_is_no_draft() -> None:
    """Only the current answer is rewritten."""
    messages = rewriting_answer("Why?", DRAFT, [], tried=[answer_of("reasons")])
    answer = answer_in(only("neutral").answer(messages, random.Random(0)))
    assert answer is not None
    assert parts_in(answer) == parts_in(DRAFT)


async def judged(query: str, answer: str) -> tuple[Score, ...]:
    aspects = [Aspect(name, KNOWN.needs[name].definition) for name in needs_of(query)]
    [text] = await texts_of(sandbox("judge"), judging(query, answer, aspects))
    return read_verdict(Reply((text,)), aspects=aspects).scores


async def rounds_of(query: str, rounds: int) -> list[tuple[float, float]]:
    """Score and truth of the best answer so far, after each round of the noisy world."""
    rewriter = sandbox("rewriter")
    [best] = await texts_of(sandbox("target"), chat("You are a helpful assistant.", query))
    scores, path = await judged(query, best), list[tuple[float, float]]()
    for number in range(rounds + 1):
        path.append((mean_of(scores), truth(query, best)))
        messages: tuple[Message, ...] = rewriting_answer(query, best, scores)
        [text] = await texts_of(rewriter, messages, sample=number)
        answer = answer_in(text)
        if answer is not None:
            new = await judged(query, answer)
            if mean_of(new) >= mean_of(scores):
                best, scores = answer, new
    return path


def mean_of(scores: Sequence[Score]) -> float:
    return statistics.fmean(score.value for score in scores if score.value is not None)


async def test_rounds_improve_answers_on_average() -> None:
    """In the eyes of the judge at each of five rounds, and in truth over all of them."""
    paths = [await rounds_of(query, 5) for query in TRAIN[:60]]
    scores = [statistics.fmean(path[at][0] for path in paths) for at in range(6)]
    truths = [statistics.fmean(path[at][1] for path in paths) for at in range(6)]
    assert scores == sorted(scores)
    assert scores[-1] - scores[0] > 0.8
    assert truths[-1] - truths[0] > 0.5


def test_the_dials_are_the_worlds() -> None:
    """Those that prompts are rewritten with."""
    world = dials("noisy", "rewriter", {})
    kinds = [
        json.loads(text)["analysis"].removeprefix("(simulated) ")
        for seed in range(400)
        if (
            text := Rewriter(world).answer(
                rewriting_answer(TRAIN[0], DRAFT, blaming("steps")), random.Random(seed)
            )
        ).startswith("{")
    ]
    assert kinds.count("helpful") / 400 == pytest.approx(world["helpful"], abs=0.08)
