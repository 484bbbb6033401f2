"""Each export loads in the tool it is for."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import Here
from datasets import Dataset
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.load import loads
from langchain_core.prompts import ChatPromptTemplate
from openai_server import OpenAIServer
from trl.data_utils import is_conversational, maybe_extract_prompt

import drpo
from drpo.aligned import aligned
from drpo.artifact import Artifact, Confirmed, content_sha256, read_artifact, sealed, write_artifact
from drpo.export import langchain_template, openai_body
from drpo.graph.errors import BadInput
from drpo.preferences import line_of, pairs
from drpo.prompt_page import page_of
from drpo.provenance import artifact_of_run

EXAMPLES = [
    {"query": "How do I keep bread fresh?", "answer": "In a bread bin, cut side down."},
    {"query": "My cat is ill. What now?", "answer": "I am sorry. Call a vet today."},
    {"query": "Which is faster, a list or a set?", "answer": "For lookups, a set."},
]
HOSTILE = "Be {kind}.\n```\n# Not a heading\n<script>alert(1)</script>\n\x1b[31mred\u202e {{ x }}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search on the sandbox, with several answers to each of its queries."""
    words = ("experiment=smoke", "search.rewrites=5", "search.queries_per_level=3")
    return drpo.optimize_blocking(*words, runs=tmp_path_factory.mktemp("runs")).path


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """Of the run, to be changed, in a folder of runs."""
    (tmp_path / "runs").mkdir()
    return Path(shutil.copy(run, tmp_path / "runs" / run.name))


@pytest.fixture(scope="module")
def made(run: Path) -> Artifact:
    return artifact_of_run(run)


def changed(artifact: Artifact, **changes: Any) -> Artifact:
    """The same with other content, sealed again."""
    values = artifact.model_dump(mode="json", by_alias=True)
    del values["provenance"], values["content_sha256"]
    return sealed(values | changes, artifact.provenance)


def execute(path: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


def test_the_artifact_goes_to_standard_output_or_into_a_file(copy: Path, here: Here) -> None:
    """The same text; beside the file is its page."""
    said = here("export")
    wrote = here("export", "-o", "my.json")
    assert (said.returncode, wrote.returncode) == (0, 0)
    folder = copy.parents[1]
    assert (folder / "my.json").read_text("utf-8") == said.stdout
    assert (folder / "my.md").read_text("utf-8") == here("export", "--format", "markdown").stdout
    assert said.stdout == here("export", "my.json").stdout


def test_a_folder_gets_the_artifact_and_prompt_md(copy: Path, here: Here) -> None:
    """Under the names by which people know them."""
    folder = copy.parents[1] / "out"
    folder.mkdir()
    assert here("export", "-o", "out").returncode == 0
    assert sorted(each.name for each in folder.iterdir()) == ["artifact.json", "prompt.md"]
    assert read_artifact(folder / "artifact.json") == artifact_of_run(copy)


@pytest.mark.parametrize("form", ["json", "text", "dpo"])
def test_what_is_there_is_written_over_only_by_force(form: str, copy: Path, here: Here) -> None:
    """In every form; the page beside an artifact counts."""
    there = copy.parents[1] / ("my.md" if form == "json" else "my.x")
    there.write_text("mine", "utf-8")
    name = "my.json" if form == "json" else "my.x"
    refused = here("export", "--format", form, "-o", name)
    assert (refused.returncode, there.read_text("utf-8")) == (2, "mine")
    assert "--force" in refused.stderr
    assert here("export", "--format", form, "-o", name, "--force").returncode == 0
    assert there.read_text("utf-8") != "mine"


def test_a_folder_that_is_not_there_is_one_line(copy: Path, here: Here) -> None:
    """In every form."""
    for form in ("json", "text", "dpo"):
        said = here("export", "--format", form, "-o", "none/my.x")
        assert (said.returncode, said.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("form", "option"),
    [
        ("text", ("--otlp", "http://127.0.0.1:4318")),
        ("json", ("--texts",)),
        ("markdown", ("--query", "Why?")),
        ("openai", ("--margin", "1")),
        ("otel", ("--include-harmful",)),
    ],
)
def test_an_option_of_another_format_is_refused(
    form: str, option: tuple[str, ...], copy: Path, here: Here
) -> None:
    """Nobody takes it for heeded."""
    assert copy.exists()
    said = here("export", "--format", form, *option)
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    assert f"{option[0]} is for --format" in said.stderr


def test_text_is_the_system_prompt_alone(copy: Path, here: Here) -> None:
    """And a line's end."""
    told = artifact_of_run(copy)
    assert here("export", "--format", "text").stdout == told.prompts["system"] + "\n"


def test_a_run_without_a_prompt_is_one_line(copy: Path, here: Here) -> None:
    """It says why."""
    execute(copy, "delete from decision")
    said = here("export")
    assert said.returncode == 2
    assert "no prompt" in said.stderr


def test_i4_the_page_shows_what_models_wrote_as_text(made: Artifact) -> None:
    """In fences that it cannot close, and without what a terminal acts on."""
    hostile = [{"query": HOSTILE, "answer": f"````{HOSTILE}"}]
    page = page_of(changed(made, prompts={"system": HOSTILE}, examples=hostile))
    outside, fence = [], ""
    for line in page.split("\n"):
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if not fence and len(ticks) >= 3:
            fence = ticks
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert not fence
    assert not any("script" in line or "Not a heading" in line for line in outside)
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_the_page_says_loudly_that_models_were_simulated(made: Artifact) -> None:
    """And that nothing was confirmed."""
    page = page_of(made)
    assert "**Simulated.**" in page
    assert "Nothing was confirmed" in page


def test_a_run_is_never_written_over(run: Path, here: Here) -> None:
    """Whatever is said: every answer in it was paid for."""
    before = run.read_bytes()
    for verb in ("export", "report"):
        done = here(verb, run.stem, "-o", str(run), "--force", "--runs", str(run.parent))
        assert done.returncode == 2
        assert "never written over" in done.stderr
    assert run.read_bytes() == before


def test_a_run_that_optimized_examples_alone_says_what_it_is_good_for(tmp_path: Path) -> None:
    """It has no prompt to export."""
    found = drpo.optimize_blocking("task=examples", "examples.limit=1", runs=tmp_path)
    with pytest.raises(BadInput, match=r"drpo align retrieval\.path="):
        artifact_of_run(found.path)


def test_the_page_tells_of_a_confirmed_gain(made: Artifact) -> None:
    """With its interval, and whether it is exploratory."""
    confirm = Confirmed(estimate=0.42, p=0.003, interval=(0.2, 0.64), n=40, exploratory=True)
    told = made.provenance.model_copy(update={"confirm": confirm})
    page = page_of(made.model_copy(update={"provenance": told}))
    assert "On 40 queries that the search never saw" in page
    assert "0.42 points better" in page
    assert "+0.20 to +0.64" in page
    assert "**Exploratory:**" in page


def test_the_page_says_where_there_was_no_real_gain(made: Artifact) -> None:
    """Whatever was measured."""
    confirm = Confirmed(estimate=0.02, p=0.4, n=40, real=False)
    told = made.provenance.model_copy(update={"confirm": confirm})
    assert "**no real gain**" in page_of(made.model_copy(update={"provenance": told}))


async def test_the_openai_client_sends_the_body(server: OpenAIServer, made: Artifact) -> None:
    """Without a query, its asker adds the turn of the user."""
    body = openai_body(changed(made, examples=EXAMPLES))
    assert [turn["role"] for turn in body["messages"]] == ["system", *["user", "assistant"] * 2]
    body["messages"].append({"role": "user", "content": "Hello?"})
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none") as client:
        said = await client.chat.completions.create(**body)
    assert said.choices[0].message.content
    assert server.requests[0].body == body


@pytest.mark.parametrize("style", ["chat", "text"])
async def test_with_a_query_it_is_what_the_aligned_model_sends(
    style: str, server: OpenAIServer, made: Artifact
) -> None:
    """Examples, sampling and all."""
    target = {
        "provider": "openai",
        "model": "target",
        "base_url": server.base_url,
        "format": style,
        "max_tokens": 70,
        "temperature": 0.3,
    }
    chat = made.model_dump(mode="json")["chat"] | {"format": style}
    artifact = changed(made, target=target, chat=chat, examples=EXAMPLES, left_out=["seed"])
    body = openai_body(artifact, "My cat is ill, what do I do?")
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none") as client:
        made_by = client.chat.completions if style == "chat" else client.completions
        await made_by.create(**body)
    with aligned(artifact) as model:
        await model.ainvoke("My cat is ill, what do I do?")
    exported, sent = (seen.body or {} for seen in server.requests)
    if style == "text":
        # langchain-openai puts the one text into a list, and beside it what holds anyhow.
        [sent["prompt"]] = sent["prompt"]
        sent = {name: sent[name] for name in exported}
    else:
        assert sent.pop("stream") is False
    assert exported == sent


def test_a_base_models_request_needs_its_query(made: Artifact) -> None:
    """Because it is one text."""
    chat = made.model_dump(mode="json")["chat"] | {"format": "text"}
    with pytest.raises(drpo.BadInput, match="--query"):
        openai_body(changed(made, chat=chat))


@pytest.mark.filterwarnings("ignore:The function `loads` is in beta")
async def test_langchain_loads_the_template(made: Artifact) -> None:
    """A brace is a brace, and the conversation follows."""
    hostile = changed(made, prompts={"system": HOSTILE}, examples=EXAMPLES)
    template = loads(langchain_template(hostile, "My cat is ill"), allowed_objects="core")
    assert isinstance(template, ChatPromptTemplate)
    filled = template.invoke({"messages": [("user", "{what} now?")]}).to_messages()
    assert filled[0].content == HOSTILE
    assert [each.type for each in filled] == ["system", *["human", "ai"] * 2, "human"]
    assert filled[-2].content == EXAMPLES[1]["answer"]
    assert filled[-1].content == "{what} now?"
    chain = template | FakeListChatModel(responses=["aye"])
    assert (await chain.ainvoke({"messages": [("user", "Hello?")]})).text == "aye"


def test_datasets_reads_the_pairs(copy: Path, here: Here, tmp_path: Path) -> None:
    """And TRL takes each for a preference of a conversation, with its prompt apart."""
    assert here("export", "--format", "dpo", "--margin", "0.25", "-o", "p.jsonl").returncode == 0
    found = Dataset.from_json(str(tmp_path / "p.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert isinstance(found, Dataset)
    assert len(found) > 1
    assert set(found.features) == {
        "prompt",
        "chosen",
        "rejected",
        "score_chosen",
        "score_rejected",
        "margin",
        "rationale",
        "query",
    }
    for row in found:
        assert is_conversational(row)
        assert maybe_extract_prompt(row) == row
        assert [turn["role"] for turn in row["chosen"]] == ["assistant"]
        assert row["prompt"][-1]["role"] == "user"
        assert row["chosen"] != row["rejected"]


def test_a_pair_is_as_far_apart_as_was_asked(run: Path) -> None:
    """By the rewards of the run, whose words stand beside them."""
    wide, narrow = list(pairs(run, margin=0.75)), list(pairs(run, margin=0.25))
    assert len(narrow) > len(wide)
    for each in narrow:
        assert each["margin"] == each["score_chosen"] - each["score_rejected"] >= 0.25
        assert ": chosen " in each["rationale"]


def test_equal_rewards_are_no_preference(run: Path) -> None:
    """Though no margin was asked for."""
    assert all(each["margin"] > 0 for each in pairs(run, margin=0))


def test_harmful_queries_are_left_out(copy: Path) -> None:
    """Unless they are asked for."""
    everything = list(pairs(copy, margin=0.25))
    tagged = everything[0]["query"]
    execute(copy, "update query set tags = ? where id = ?", '["writing", "harmful"]', tagged)
    kept = list(pairs(copy, margin=0.25))
    assert tagged not in {each["query"] for each in kept}
    assert 0 < len(kept) < len(everything)
    assert list(pairs(copy, margin=0.25, harmful=True)) == everything


@pytest.mark.parametrize("part", ["select", "confirm"])
def test_nothing_learns_from_what_is_measured_with(part: str, copy: Path) -> None:
    """Or the next measurement would tell nothing."""
    execute(copy, "update query set part = ?", part)
    assert not list(pairs(copy, margin=0.25))


def test_only_what_was_scored_for_the_same_aspects_is_compared(copy: Path) -> None:
    """And what was not scored at all is in no pair."""
    with sqlite3.connect(copy) as db:
        for rowid, scores in db.execute("select rowid, scores from verdict").fetchall():
            judged = json.loads(scores)
            judged[rowid % len(judged)]["value"] = None
            db.execute("update verdict set scores = ? where rowid = ?", [json.dumps(judged), rowid])
    db.close()
    aspects = [
        {line.split(": chosen")[0] for line in each["rationale"].splitlines()}
        for each in pairs(copy, margin=0.25)
    ]
    assert all(aspects)
    execute(copy, "update verdict set reward = null")
    assert not list(pairs(copy, margin=0.25))


def test_the_hash_of_an_exported_artifact_is_that_of_its_content(made: Artifact) -> None:
    """As the page says."""
    values = made.model_dump(mode="json", by_alias=True)
    assert content_sha256(values) == made.content_sha256
    assert made.content_sha256 in page_of(made)


def test_i4_a_terminal_is_sent_nothing_that_it_would_act_on(
    made: Artifact, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe is sent the prompt as it is."""
    write_artifact(tmp_path / "a.json", changed(made, prompts={"system": HOSTILE}))
    assert "\x1b" in here("export", "a.json", "--format", "text").stdout
    monkeypatch.setattr("drpo.export._to_terminal", lambda: True)
    said = here("export", "a.json", "--format", "text").stdout
    assert "\x1b" not in said
    assert "\u202e" not in said


@pytest.mark.parametrize("form", ["json", "text", "markdown", "openai", "langchain", "dpo"])
def test_i4_no_form_acts_on_a_terminal(
    form: str, copy: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever models wrote, and whoever reads the run or its artifact."""
    execute(copy, "update text set body = body || ?", HOSTILE)
    monkeypatch.setattr("drpo.export._to_terminal", lambda: True)
    said = here("export", "--format", form, *(["--margin", "0"] if form == "dpo" else []))
    assert said.returncode == 0, said.stderr
    assert said.stdout
    assert not {"\x1b", "\x9b", "\u202e"} & {*said.stdout}


def test_i4_pairs_in_a_file_are_the_texts_as_they_were(copy: Path, tmp_path: Path) -> None:
    """JSON escapes what a terminal acts on; whoever reads it has the same text."""
    execute(copy, "update text set body = body || ?", HOSTILE)
    lines = [line_of(pair) for pair in pairs(copy, margin=0)]
    assert lines
    assert not any("\x1b" in line or "\u202e" in line or "\x9b" in line for line in lines)
    assert json.loads(lines[0])["chosen"][-1]["content"].endswith(HOSTILE)
