"""The aligned model: what it sends, how it can be called, what it does not do unasked."""

from __future__ import annotations

import asyncio
import gc
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool
from openai_server import OpenAIServer, Seen

import drpo
from drpo.aligned import aligned
from drpo.artifact import Artifact, read_artifact, sealed, write_artifact
from drpo.provenance import artifact_of_run

KEY = "sk-secret-0123456789"
ON_SERVER = ("models=openai", "search=greedy", "search.levels=2", "data.limit=4")
EXAMPLES = [
    {"query": "How do I keep bread fresh?", "answer": "In a bread bin, cut side down."},
    {"query": "My cat is ill. What now?", "answer": "I am sorry. Call a vet today."},
    {"query": "Which is faster, a list or a set?", "answer": "For lookups, a set."},
]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


async def run_on(server: OpenAIServer, tmp_path: Path, *words: str) -> Path:
    """A finished search whose roles are all on the server."""
    given = (*ON_SERVER, f"openai.base_url={server.base_url}", *words)
    return (await drpo.optimize(*given, runs=tmp_path)).path


async def sandboxed(tmp_path: Path) -> Artifact:
    result = await drpo.optimize("experiment=smoke", runs=tmp_path)
    return artifact_of_run(result.path)


def changed(artifact: Artifact, **changes: Any) -> Artifact:
    """The same with other content, sealed again."""
    values = artifact.model_dump(mode="json", by_alias=True)
    content = {
        name: values[name] for name in values if name not in ("provenance", "content_sha256")
    }
    return sealed(content | changes, artifact.provenance)


def body(seen: Seen) -> dict[str, Any]:
    assert seen.body is not None
    return seen.body


def asked_of_target(path: Path, candidate: int) -> list[tuple[list[dict[str, str]], str]]:
    """Turns of each query that the candidate answered, and the hash of the request's body."""
    with sqlite3.connect(path) as db:
        rows = db.execute(
            "select query.messages, request_sha256 from call join query"
            " on query.ordinal = call.query where role = 'target' and candidate = ?",
            [candidate],
        ).fetchall()
    turns = [
        [dict(zip(("role", "content"), each, strict=True)) for each in json.loads(said)]
        for said, _ in rows
    ]
    return list(zip(turns, [sha for _, sha in rows], strict=True))


@pytest.mark.parametrize("style", ["chat", "text"])
async def test_it_sends_what_the_searchs_target_sent(
    style: str, server: OpenAIServer, tmp_path: Path
) -> None:
    """Byte for byte: the server's hash of each body is the one that the run wrote down."""
    words = (
        f"models.target.format={style}",
        "models.target.max_tokens=99",
        "models.target.temperature=0.7",
    )
    path = await run_on(server, tmp_path, *words)
    write_artifact(tmp_path / "a.json", artifact_of_run(path))
    artifact = read_artifact(tmp_path / "a.json")
    asked = asked_of_target(path, artifact.provenance.found.candidate)
    assert asked
    with drpo.load(tmp_path / "a.json") as model:
        for turns, sha256 in asked:
            before = len(server.requests)
            await model.ainvoke(turns)
            assert server.requests[before].sha256 == sha256


@pytest.mark.parametrize("style", ["chat", "text"])
async def test_a_streams_request_differs_by_stream_alone(
    style: str, server: OpenAIServer, tmp_path: Path
) -> None:
    """And its bits are the whole answer."""
    path = await run_on(server, tmp_path, f"models.target.format={style}")
    with aligned(artifact_of_run(path)) as model:
        server.requests.clear()
        server.say_next("One two three.", times=2)
        whole = await model.ainvoke("Hello?")
        bits = [bit async for bit in model.astream("Hello?")]
    said, streamed = (body(seen) for seen in server.requests)
    assert streamed == said | {"stream": True}
    assert len(bits) > 3
    assert "".join(str(bit.text) for bit in bits) == str(whole.text) == "One two three."


async def test_the_examples_are_those_of_the_last_turn(
    server: OpenAIServer, tmp_path: Path
) -> None:
    """After the prompt and before the conversation, which stays as it is."""
    path = await run_on(server, tmp_path)
    retrieval = {"k": 1, "embedder": {"kind": "lexical"}}
    artifact = changed(artifact_of_run(path), examples=EXAMPLES, retrieval=retrieval)
    talk = [HumanMessage("Hi."), AIMessage("Hello!"), HumanMessage("My cat is ill, what do I do?")]
    with aligned(artifact) as model:
        server.requests.clear()
        await model.ainvoke(talk)
        assert [each.answer for each in await model.aexamples(talk)] == [EXAMPLES[1]["answer"]]
    [seen] = server.requests
    assert body(seen)["messages"] == [
        {"role": "system", "content": artifact.prompts["system"]},
        {"role": "user", "content": EXAMPLES[1]["query"]},
        {"role": "assistant", "content": EXAMPLES[1]["answer"]},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "My cat is ill, what do I do?"},
    ]


async def test_the_callers_own_system_turn_follows_the_examples(tmp_path: Path) -> None:
    """As it does in a query of the search."""
    artifact = changed(await sandboxed(tmp_path), examples=EXAMPLES[:1], retrieval={"k": 1})
    with aligned(artifact) as model:
        sent = await model.amessages([SystemMessage("Answer in verse."), HumanMessage("Bread?")])
    assert [each.type for each in sent] == ["system", "human", "ai", "system", "human"]
    assert sent[3].content == "Answer in verse."


async def test_a_sandbox_answers_as_it_did_in_the_search(tmp_path: Path) -> None:
    """The very text that the run stored."""
    result = await drpo.optimize("experiment=smoke", runs=tmp_path)
    artifact = artifact_of_run(result.path)
    with sqlite3.connect(result.path) as db:
        rows = db.execute(
            "select query.messages, body from sample join query on ordinal = sample.query"
            " join text on sha256 = sample.text where candidate = ?",
            [artifact.provenance.found.candidate],
        ).fetchall()
    assert rows
    with aligned(artifact) as model:
        for messages, text in rows:
            [[_, content]] = json.loads(messages)
            assert (await model.ainvoke(content)).text == text


def calls_of(model: Any) -> dict[str, Callable[[], Any]]:
    async def streamed() -> str:
        return "".join([str(bit.text) async for bit in model.astream("Hello?")])

    async def together() -> list[str]:
        return [each.text for each in await model.abatch(["Hello?", "Hello?"])]

    return {
        "invoke": lambda: model.invoke("Hello?").text,
        "batch": lambda: [each.text for each in model.batch(["Hello?", "Hello?"])][1],
        "stream": lambda: "".join(str(bit.text) for bit in model.stream("Hello?")),
        "ainvoke": lambda: asyncio.run(model.ainvoke("Hello?")).text,
        "abatch": lambda: asyncio.run(together())[1],
        "astream": lambda: asyncio.run(streamed()),
    }


@pytest.mark.parametrize("way", ["invoke", "batch", "stream", "ainvoke", "abatch", "astream"])
def test_every_way_to_call_it_works_without_a_loop(way: str, tmp_path: Path) -> None:
    """Again and again, in one event loop after another."""
    artifact = asyncio.run(sandboxed(tmp_path))
    with aligned(artifact) as model:
        expected = model.invoke("Hello?").text
        assert expected
        assert [calls_of(model)[way]() for _ in range(2)] == [expected] * 2


@pytest.mark.parametrize("way", ["invoke", "batch", "stream"])
async def test_blocking_calls_work_inside_a_loop(
    way: str, server: OpenAIServer, tmp_path: Path
) -> None:
    """Beside one that runs the very server that answers: in a thread, so that it can."""
    path = await run_on(server, tmp_path)
    with aligned(artifact_of_run(path)) as model:
        assert await asyncio.to_thread(calls_of(model)[way])
    with aligned(await sandboxed(tmp_path)) as simulated:
        assert calls_of(simulated)[way]()


async def test_any_chat_model_can_answer_in_its_place(tmp_path: Path) -> None:
    """With the prompt before the question; a stream is its stream."""
    artifact = await sandboxed(tmp_path)
    with aligned(artifact, FakeListChatModel(responses=["aye"])) as model:
        assert model.invoke("Hello?").text == "aye"
        assert [bit.text for bit in model.stream("Hello?")][:3] == ["a", "y", "e"]
        assert [bit.text async for bit in model.astream("Hello?")][:3] == ["a", "y", "e"]


async def test_a_given_model_takes_turns_though_the_search_had_a_base_model(
    server: OpenAIServer, tmp_path: Path
) -> None:
    """It is a chat model."""
    path = await run_on(server, tmp_path, "models.target.format=text")
    with aligned(artifact_of_run(path), FakeListChatModel(responses=["aye"])) as model:
        assert [each.type for each in model.messages("Hello?")] == ["system", "human"]


@tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"rain in {place}"


class Caller(GenericFakeChatModel):
    """Takes any tools."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Itself."""
        return self


async def test_an_agent_of_langchain_runs_on_it(tmp_path: Path) -> None:
    """With tools, over a model that calls them."""
    asks = {"name": "weather", "args": {"place": "Ulm"}, "id": "1", "type": "tool_call"}
    says = iter([AIMessage("", tool_calls=[asks]), AIMessage("Take an umbrella.")])
    with aligned(await sandboxed(tmp_path), Caller(messages=says)) as model:
        agent = create_agent(model, [weather])
        done = await agent.ainvoke({"messages": [HumanMessage("Do I need an umbrella in Ulm?")]})
    assert [each.type for each in done["messages"]] == ["human", "ai", "tool", "ai"]
    assert done["messages"][-1].text == "Take an umbrella."


async def test_tools_reach_the_server_of_the_artifact(server: OpenAIServer, tmp_path: Path) -> None:
    """As ChatOpenAI sends them, beside all that the search sent."""
    path = await run_on(server, tmp_path)
    with aligned(artifact_of_run(path)) as model:
        server.requests.clear()
        await model.ainvoke("Hello?")
        await model.bind_tools([weather], tool_choice="any").ainvoke("Hello?")
    plain, bound = (body(seen) for seen in server.requests)
    assert [each["function"]["name"] for each in bound.pop("tools")] == ["weather"]
    assert bound.pop("tool_choice") == "required"
    assert bound == plain


async def test_an_agents_stream_has_every_token_once(tmp_path: Path) -> None:
    """Though there are two chat models, one inside the other."""
    inner = FakeListChatModel(responses=["a b"])
    with aligned(await sandboxed(tmp_path), inner) as model:
        agent = create_agent(model, [])
        said = [
            bit.text
            async for bit, _ in agent.astream(
                {"messages": [HumanMessage("Hello?")]}, stream_mode="messages"
            )
            if isinstance(bit, AIMessageChunk)
        ]
    assert "".join(said) == "a b"


async def test_tokens_are_counted_once(server: OpenAIServer, tmp_path: Path) -> None:
    """For whoever listens; streams count where they are asked to."""
    path = await run_on(server, tmp_path)
    heard = UsageMetadataCallbackHandler()
    with aligned(artifact_of_run(path)) as model:
        server.say_next("One two three.", times=2)
        said = await model.ainvoke("Hello?", {"callbacks": [heard]})
        bits = [bit async for bit in model.astream("Hello?", stream_usage=True)]
    assert said.usage_metadata is not None
    assert [dict(each) for each in heard.usage_metadata.values()] == [said.usage_metadata]
    counted = [bit.usage_metadata for bit in bits if bit.usage_metadata]
    assert [each["total_tokens"] for each in counted if each] == [
        said.usage_metadata["total_tokens"]
    ]


async def test_what_a_model_thinks_is_no_answer(server: OpenAIServer, tmp_path: Path) -> None:
    """As it was none to the judge."""
    path = await run_on(server, tmp_path)
    with aligned(artifact_of_run(path)) as model:
        server.say_next("<think>hm, well</think>\nYes.", times=2)
        said = await model.ainvoke("Hello?")
        bits = [bit async for bit in model.astream("Hello?")]
    assert (said.text, said.additional_kwargs["reasoning_content"]) == ("Yes.", "hm, well")
    assert "".join(str(bit.text) for bit in bits) == "Yes."


async def test_a_busy_server_is_asked_again(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams too, as long as nothing has come."""
    monkeypatch.setattr("drpo.models.provider.FIRST_BACKOFF_S", 0.001)
    path = await run_on(server, tmp_path)
    with aligned(artifact_of_run(path)) as model:
        server.fail_next(status=503)
        assert (await model.ainvoke("Hello?")).text
        server.fail_next(status=503)
        assert [bit async for bit in model.astream("Hello?")]


async def test_an_error_is_one_line_without_the_key(server: OpenAIServer, tmp_path: Path) -> None:
    """Of drpo's own kind."""
    path = await run_on(server, tmp_path)
    with aligned(artifact_of_run(path)) as model:
        server.fail_next(status=401, message=f"bad key {KEY}")
        with pytest.raises(drpo.ProviderStopped) as caught:
            await model.ainvoke("Hello?")
    assert KEY not in str(caught.value)
    assert "401" in str(caught.value)


async def test_what_the_server_does_not_take_is_left_out_again(
    server: OpenAIServer, tmp_path: Path
) -> None:
    """The run learned it, and the artifact knows."""
    server.refuse("seed", role="target")
    path = await run_on(server, tmp_path)
    artifact = artifact_of_run(path)
    assert artifact.left_out == ("seed",)
    asked = asked_of_target(path, artifact.provenance.found.candidate)
    with aligned(artifact) as model:
        for turns, sha256 in asked:
            await model.ainvoke(turns)
            assert server.requests[-1].sha256 == sha256


async def test_nobody_has_to_close_it(server: OpenAIServer, tmp_path: Path) -> None:
    """It closes itself when nobody has it any more."""
    path = await run_on(server, tmp_path)
    model = aligned(artifact_of_run(path))
    await model.ainvoke("Hello?")
    portal = model._portal
    del model
    gc.collect()
    with pytest.raises(RuntimeError, match="closed"):
        portal.run(asyncio.sleep(0))
