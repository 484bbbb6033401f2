"""Which examples a query is shown, where they come from, and that their run keeps what was paid."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from openai_server import OpenAIServer

import drpo
from benchmarks.retrieval import (
    EXAMPLES,
    NEAR,
    PARAPHRASED,
    found,
    missed,
    packaged_model,
    settings,
)
from drpo.checkpoints.doctor import examine
from drpo.checkpoints.runs import load_run, reading, run_paths
from drpo.conf.schema import RetrievalSettings
from drpo.examples import load_examples
from drpo.graph.errors import BadInput, BudgetReached
from drpo.graph.values import Example, Message, Query
from drpo.models.retrieval import ExampleRetriever, check_examples, tokens
from drpo.replay import replay

SHORT = [
    Example("cook rice", "a" * 31),
    Example("cook pasta", "b" * 30),
    Example("cook pasta in a pot", "c" * 21),
    Example("write a poem", "d" * 28),
]
"""Ten tokens each."""
SEARCH = ("search.levels=2", "search.rewrites=1", "search.width=1", "search.queries_per_level=2")


def retriever(examples: Sequence[Example] = SHORT, **values: Any) -> ExampleRetriever:
    return ExampleRetriever(examples, RetrievalSettings.model_validate(values))


def asking(*texts: str) -> Query:
    """A query of one turn, or of several."""
    turns = [Message("assistant" if at % 2 else "user", text) for at, text in enumerate(texts)]
    return Query(0, "q", tuple(turns))


async def shown(text: str, **values: Any) -> list[str]:
    return [each.query for each in await retriever(**values).examples(asking(text))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of examples."""
    path = tmp_path / "examples.jsonl"
    lines = (json.dumps({"query": each.query, "answer": each.answer}) for each in SHORT)
    path.write_text("\n".join(lines))
    return path


async def test_the_examples_most_like_the_query_are_shown() -> None:
    """The most alike last, next to the query, or first."""
    assert await shown("cooking pasta") == ["cook pasta in a pot", "cook pasta"]
    best = await shown("cooking pasta", order="best_first")
    assert best == ["cook pasta", "cook pasta in a pot"]


async def test_of_those_equally_alike_the_earlier_is_shown() -> None:
    """Also where none has a word in common with the query."""
    assert await shown("?", k=3, order="best_first") == [each.query for each in SHORT[:3]]


@pytest.mark.parametrize("k", [0, 1, 4, 9])
async def test_k_is_the_most_that_are_shown(k: int) -> None:
    """0 is none, and there may be fewer."""
    assert len(await shown("rice", k=k)) == min(k, len(SHORT))


async def test_without_examples_none_is_shown() -> None:
    """Whatever k is."""
    assert await retriever([]).examples(asking("rice")) == ()


@pytest.mark.parametrize(("most", "count"), [(None, 3), (30, 3), (29, 2), (10, 1)])
async def test_those_least_alike_give_way_to_the_budget(most: int | None, count: int) -> None:
    """Of all of them together, in tokens."""
    assert all(tokens(each) == 10 for each in SHORT)
    best = ["cook pasta", "cook pasta in a pot", "cook rice"][:count]
    assert await shown("cook pasta now", k=3, max_tokens=most, order="best_first") == best


async def test_an_example_too_long_by_itself_keeps_nobody_out() -> None:
    """The next one takes its place."""
    long = Example("cook pasta now", "x" * 1_000)
    best = await retriever([long, *SHORT], k=1, max_tokens=20).examples(asking("Pasta?"))
    assert [each.query for each in best] == ["cook pasta"]


async def test_the_query_itself_is_never_shown() -> None:
    """Its optimized answer would be copied; capitals, spaces and a mark make no other query."""
    assert "cook rice" not in await shown("Cook \n rice?", k=4)


async def test_of_a_conversation_all_turns_count() -> None:
    """Not only the last."""
    best = await retriever(k=1).examples(asking("I have pasta and a pot.", "And?", "Go on."))
    assert [each.query for each in best] == ["cook pasta in a pot"]


async def test_words_find_examples_in_other_forms_of_their_words() -> None:
    """The lexical embedder, on the benchmark's own queries."""
    assert len(await missed(ExampleRetriever(EXAMPLES, settings({"kind": "lexical"})), NEAR)) <= 1


async def test_sentences_find_paraphrases() -> None:
    """hit@2 is at least 0.8 with the sentence embedder of a package."""
    folder = packaged_model()
    assert folder is not None
    embedder = {"kind": "sentences", "model": str(folder)}
    opened = ExampleRetriever(EXAMPLES, settings(embedder))
    lost = await missed(opened, (*NEAR, *PARAPHRASED))
    assert len(lost) <= 4, lost
    assert len(await found(opened, "Why?")) == 2


def test_examples_are_read_in_order(file: Path) -> None:
    """Without the spaces around them; none without a file."""
    file.write_text('\n{"query": " a ", "answer": "b"}\n\n{"query": "c", "answer": " d\\n"}\n')
    read = load_examples(RetrievalSettings(path=str(file)))
    assert read == [Example("a", "b"), Example("c", "d")]
    assert load_examples(RetrievalSettings()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1: it is not JSON"),
        ("[1]", "line 1: it is not a JSON object"),
        ('{"query": "a"}', "line 1: answer: Field required"),
        ('{"query": "a", "answer": " "}', "line 1: answer: "),
        ('{"query": "a", "answer": "b", "id": 1}', "line 1: there is no field 'id'"),
        ('{"query": "a b", "answer": "b"}\n{"query": "A  b", "answer": "c"}', "as in line 1"),
        ("", "there are no examples"),
        (json.dumps({"query": "a", "answer": "x" * 9_000}), "retrieval.max_tokens=2000: example 1"),
    ],
)
def test_a_bad_file_of_examples_is_bad_input(text: str, words: str, file: Path) -> None:
    """One line, which says where."""
    file.write_text(text)
    with pytest.raises(BadInput, match=words.replace("(", r"\(")) as caught:
        load_examples(RetrievalSettings(path=str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["examples.json", "examples.csv", "examples", "missing.jsonl"])
def test_another_file_is_bad_input(name: str, tmp_path: Path) -> None:
    """Which names the setting."""
    with pytest.raises(BadInput, match="retrieval.path=.*" + name):
        load_examples(RetrievalSettings(path=str(tmp_path / name)))


def test_no_limit_takes_every_example() -> None:
    """However long."""
    check_examples([Example("a", "x" * 99_999)], RetrievalSettings(max_tokens=None))


async def test_the_target_is_shown_them_as_turns(file: Path, tmp_path: Path) -> None:
    """Between the prompt and the query, on every sample; the run's file has them."""
    async with OpenAIServer() as server:
        words = ("models=openai", f"openai.base_url={server.base_url}", *SEARCH)
        done = await drpo.optimize(
            *words,
            f"retrieval.path={file}",
            queries=["pasta, please", "hi"],
            runs=tmp_path / "runs",
        )
    bodies = [seen.body for seen in server.requests if seen.role == "target" and seen.body]
    roles = ["system", *("user", "assistant") * 2, "user"]
    assert bodies
    for body in bodies:
        assert [turn["role"] for turn in body["messages"]] == roles
    [first, *_] = [body for body in bodies if body["messages"][-1]["content"] == "pasta, please"]
    contents = [turn["content"] for turn in first["messages"][1:5]]
    assert contents == ["cook pasta in a pot", "c" * 21, "cook pasta", "b" * 30]
    assert load_run(done.path).examples == tuple(SHORT)


async def test_a_resumed_run_pays_for_no_vector_twice(file: Path, tmp_path: Path) -> None:
    """Examples and vectors come from its file; the user's may be gone. Nor does a replay pay."""
    async with OpenAIServer() as server:
        words = (
            *("models=openai", f"openai.base_url={server.base_url}", *SEARCH),
            *("embedder=openai", f"retrieval.path={file}"),
        )
        with pytest.raises(BudgetReached):
            await drpo.optimize(
                *words, "budget.calls=4", queries=["pasta, please", "hi"], runs=tmp_path / "runs"
            )
        file.unlink()
        await drpo.resume(None, "budget.calls=null", runs=tmp_path / "runs")
        bodies = [seen.body for seen in server.requests if seen.role == "embedder" and seen.body]
    asked = [body["input"] for body in bodies]
    [path] = run_paths(tmp_path / "runs")
    texts = [text for texts in asked for text in texts]
    assert asked[0] == [each.query for each in SHORT]
    assert sorted(texts) == sorted({*(each.query for each in SHORT), "pasta, please", "hi"})
    with reading(path) as db:
        assert db["embedding"].count == len(texts)
        assert all(len(row["vector"]) == 4 * 256 for row in db["embedding"].rows)
    # The server is gone.
    assert (await asyncio.to_thread(replay, path)).same


async def test_a_wrong_key_of_the_embedder_leaves_no_run_behind(file: Path, tmp_path: Path) -> None:
    """It shows before the first call of a search."""
    async with OpenAIServer() as server:
        server.fail_next(status=401, role="embedder", times=9)
        words = (f"openai.base_url={server.base_url}", "embedder=openai", f"retrieval.path={file}")
        with pytest.raises(BadInput, match=r"retrieval\.embedder"):
            await drpo.optimize(*words, *SEARCH, runs=tmp_path / "runs")
    assert not run_paths(tmp_path / "runs")


def test_a_missing_key_of_the_embedder_is_bad_input(file: Path, here: Here) -> None:
    """Before anything is written."""
    done = here("optimize", "embedder=openai", f"retrieval.path={file}", *SEARCH)
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert not Path("runs").exists()


def test_a_fork_has_the_examples_of_its_parent(file: Path, here: Here, tmp_path: Path) -> None:
    """Other ones would be another run's; how many are shown may change."""
    assert here("optimize", f"retrieval.path={file}", *SEARCH).returncode == 0
    refused = here("fork", "retrieval.path=other.jsonl")
    assert refused.returncode == 2
    assert "queries and examples" in refused.stderr
    assert here("fork", "--level", "0", "retrieval.k=1").returncode == 0
    assert load_run(run_paths(tmp_path / "runs")[-1]).examples == tuple(SHORT)


def test_an_estimate_counts_the_examples(file: Path) -> None:
    """In the target's questions alone."""
    without = drpo.estimate("data.path=builtin:train")
    shown = drpo.estimate("data.path=builtin:train", f"retrieval.path={file}")
    calls = without.roles["target"].calls.expected
    more = (
        shown.roles["target"].prompt_tokens.expected
        - without.roles["target"].prompt_tokens.expected
    )
    assert more == pytest.approx(calls * 20, rel=0.01)
    assert shown.roles["judge"] == without.roles["judge"]


def test_the_doctor_finds_a_broken_vector(file: Path, here: Here, tmp_path: Path) -> None:
    """By its length."""
    assert here("optimize", f"retrieval.path={file}", *SEARCH).returncode == 0
    [path] = run_paths(tmp_path / "runs")
    with closing(sqlite3.connect(path)) as db, db:
        [(text,)] = db.execute("select query from example limit 1").fetchall()
        db.execute("insert into embedding values ('e', ?, x'0102')", (text,))
    said = [look.said for look in examine(path) if not look.ok]
    assert said == ["embedding: vector: b'\\x01\\x02' is no vector"]
