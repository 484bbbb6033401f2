"""The sandbox over HTTP gives what it gives in-process."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from sandboxes import answer_of, rewriting_answer

import drpo
from drpo.conf.schema import SandboxSettings
from drpo.graph.values import ROLES, Message, Score
from drpo.models.provider import Call
from drpo.models.sandbox.provider import Sandbox
from drpo.models.sandbox.server import application

SETTINGS = SandboxSettings(
    provider="sandbox", model="sandbox", world="noisy", profile="terse", seed=3
)
ASKED = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
SEARCH = ("search=greedy", "search.levels=4", "seed=3", "data=sandbox", "sandbox.profile=terse")


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """The base URL."""
    async with TestServer(application(SETTINGS)) as server:
        yield str(server.make_url("/v1"))


async def post(url: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON."""
    data = io.BytesIO(json.dumps(body).encode())
    async with aiohttp.ClientSession() as session, session.post(f"{url}/{path}", data=data) as got:
        return got.status, await got.json()


@pytest.mark.parametrize("seed", [0, 7])
async def test_the_seed_is_the_sample_index(seed: int) -> None:
    """And with `n`, text i is that of seed + i, as in-process."""
    messages = (Message("system", "Be kind."), Message("user", "Hello?"))
    own = await Sandbox(SETTINGS, "target").complete(Call(messages=messages, sample=seed, n=3))
    async with served() as url:
        body = {"model": "sandbox-target", "messages": ASKED, "n": 3, "seed": seed}
        _, said = await post(url, "chat/completions", body)
    assert tuple(choice["message"]["content"] for choice in said["choices"]) == own.texts
    assert said["usage"]["prompt_tokens"] == own.prompt_tokens
    assert said["usage"]["completion_tokens"] == own.completion_tokens


async def test_a_new_answer_is_the_one_in_process() -> None:
    """The model that is every role knows that the rewriter is asked."""
    score = Score("Depth", 2.0, "(simulated) It never says why.")
    messages = rewriting_answer("Why?", answer_of("gist"), [score])
    own = await Sandbox(SETTINGS, "rewriter").complete(Call(messages=messages, sample=2, n=3))
    turns = [{"role": turn.role, "content": turn.content} for turn in messages]
    async with served() as url:
        body = {"model": "sandbox", "messages": turns, "n": 3, "seed": 2}
        _, said = await post(url, "chat/completions", body)
    assert tuple(choice["message"]["content"] for choice in said["choices"]) == own.texts


async def test_a_base_model_continues_a_text() -> None:
    """Through /completions, stopping where it is told to."""
    body = {"model": "sandbox-target", "prompt": "Be kind.\n\n# Query\nHello?", "stop": "Hello"}
    async with served() as url:
        status, said = await post(url, "completions", body)
    assert status == 200
    assert said["choices"][0]["text"].endswith("On \u201c")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("chat/completions", {"model": "gpt", "messages": ASKED}, 404, "model_not_found"),
        ("chat/completions", {"model": "sandbox-judge"}, 400, "invalid_request"),
        ("chat/completions", {"model": "sandbox-judge", "messages": []}, 400, "invalid_request"),
        (
            "chat/completions",
            {"model": "sandbox-judge", "messages": ASKED, "n": 129},
            400,
            "invalid_request",
        ),
        (
            "chat/completions",
            {"model": "sandbox-judge", "messages": ASKED, "stream": True},
            400,
            "invalid_request",
        ),
        ("completions", [1], 400, "invalid_request"),
        ("nothing", {}, 404, "invalid_request"),
        ("completions", "x" * 9_000_000, 413, "invalid_request"),
    ],
)
async def test_what_cannot_be_answered_is_said(
    path: str, body: Any, status: int, code: str
) -> None:
    """In the protocol's own form."""
    async with served() as url:
        got, said = await post(url, path, body)
    assert (got, said["error"]["code"]) == (status, code)


async def test_the_models_are_listed() -> None:
    """One for every role, and one a role."""
    async with (
        served() as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/models") as got,
    ):
        names = [each["id"] for each in (await got.json())["data"]]
    assert names == ["sandbox", *(f"sandbox-{role}" for role in ROLES)]


async def test_a_search_over_http_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real ChatOpenAI, with one request a rewrite or one for all."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    own = await drpo.optimize(*SEARCH, runs=tmp_path)
    async with served() as url:
        for multiple in ("true", "false"):
            words = [f"models.{role}.base_url={url}" for role in ROLES]
            words += [f"models.{role}.model=sandbox-{role}" for role in ROLES]
            # The sandbox by itself asks once.
            words += [f"models.{role}.asks=1" for role in ROLES]
            words += [f"models.rewriter.multiple={multiple}"]
            other = await drpo.optimize("models=openai", *SEARCH, *words, runs=tmp_path)
            assert other.summary["tree_sha256"] == own.summary["tree_sha256"]


async def test_one_model_plays_every_role(tmp_path: Path) -> None:
    """Told apart by what it is asked with, it answers as the four models do."""
    async with served() as url:
        words = ["models=openai", f"openai.base_url={url}", "search.levels=2"]
        one = await drpo.optimize(*words, "openai.model=sandbox", runs=tmp_path)
        roles = [f"models.{role}.model=sandbox-{role}" for role in ROLES]
        four = await drpo.optimize(*words, *roles, runs=tmp_path)
    assert one.summary["tree_sha256"] == four.summary["tree_sha256"]


async def test_the_command_serves_until_it_is_told_to_stop() -> None:
    """One line with the address, and one at the end."""
    words = ["-m", "drpo.models.sandbox", "--serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    status, _ = await post(line.split()[0], "chat/completions", {"model": "gpt"})
    process.send_signal(signal.SIGTERM)
    rest, _ = await process.communicate()
    assert (status, rest.decode(), process.returncode) == (400, "stopped\n", 0)
