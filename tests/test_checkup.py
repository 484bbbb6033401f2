"""`drpo doctor --models`: what is wrong with a model is told before a search pays for it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import Here
from openai_server import OpenAIServer

from drpo.checkup import LEAST_LONG
from drpo.graph.values import ROLES

KEY = "sk-planted-0123456789"
LOOKS = (
    "key",
    "server",
    "call",
    "parameters",
    "structured output",
    "several completions",
    "long prompt",
    "price",
)


class Model:
    """Does what the doctor asks for, but for what a test turns off."""

    def __init__(self) -> None:
        self.base_url = ""
        self.bodies: list[dict[str, Any]] = []
        self.reads: int | None = None
        """Characters of a prompt, the last ones; None for all."""
        self.counts = True
        self.heeds = True
        self.enforces = True
        self.writes_json = True
        self.most_choices = 8
        self.refuses: Sequence[str] = ()
        """Parameters."""
        self.fault: tuple[int, Mapping[str, Any]] | None = None
        self.late_fault: tuple[int, Mapping[str, Any]] | None = None
        """Of every request but the first."""

    async def chat(self, request: web.Request) -> web.Response:
        """One answer."""
        body = await request.json()
        self.bodies.append(body)
        fault = self.fault or (self.late_fault if len(self.bodies) > 1 else None)
        if fault is not None:
            return web.json_response({"error": fault[1]}, status=fault[0])
        for name in self.refuses:
            if name in body:
                said = f"Unsupported parameter: '{name}' is not supported"
                error = {"message": said, "type": "invalid_request_error", "param": name}
                return web.json_response({"error": error}, status=400)
        prompt = body["messages"][-1]["content"]
        prompt = prompt if self.reads is None else prompt[-self.reads :]
        reply = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": self._said(body, prompt)},
                    "finish_reason": "stop",
                }
                for index in range(min(body.get("n", 1), self.most_choices))
            ],
        }
        if self.counts:
            tokens = len(prompt) // 5
            reply["usage"] = {
                "prompt_tokens": tokens,
                "completion_tokens": 3,
                "total_tokens": tokens + 3,
            }
        return web.json_response(reply)

    def _said(self, body: Mapping[str, Any], prompt: str) -> str:
        if "JSON" in prompt and self.writes_json:
            held = self.enforces and "response_format" in body
            return '{"answer": "yes"}' if held else 'Sure: {"wet": true}'
        word = re.match(r"The secret word is (\w+)\.", prompt)
        return word[1].title() if word and self.heeds else "I cannot say."


@asynccontextmanager
async def served(model: Model) -> AsyncIterator[str]:
    """Its base URL."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", model.chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


Told = tuple[int, dict[tuple[str, str], dict[str, Any]], str]
"""Exit code, looks by role and name, standard error."""


async def examined(here: Here, *words: str) -> Told:
    done = await asyncio.to_thread(here, "doctor", "--json", *words)
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr
    looks = json.loads(done.stdout)
    by_name = {(role, look["what"]): look for look in looks for role in look["roles"]}
    return done.returncode, by_name, done.stderr


async def tried(here: Here, model: Model, *words: str) -> Told:
    async with served(model) as base_url:
        return await examined(here, "models=openai", f"openai.base_url={base_url}", *words)


def states(told: Told) -> dict[str, str]:
    """Of the judge."""
    return {what: look["state"] for (role, what), look in told[1].items() if role == "judge"}


async def test_a_model_that_does_everything_is_well(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look at every role; the equal ones of three roles cost one trial."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = Model()
    code, looks, said = told = await tried(here, model)
    assert code == 0
    assert set(states(told)) == set(LOOKS)
    assert set(states(told).values()) == {"ok"}
    assert looks["judge", "structured output"]["said"] == "enforced"
    assert looks["rewriter", "several completions"]["said"].startswith("honoured")
    assert looks["target", "key"]["roles"] == ["target", "rewarder", "judge"]
    assert f"takes {len(model.bodies)} calls" in said


async def test_the_calls_are_told_before_they_are_made(here: Here) -> None:
    """Also what they cost, where that is known."""
    model = Model()
    prices = [f"models.{role}.price_{way}=1" for role in ROLES for way in ("in", "out")]
    _, looks, said = await tried(here, model, *prices)
    assert "for about $0.0" in said.splitlines()[0]
    assert looks["judge", "price"]["said"].startswith("$1 in and $1 out")


async def test_a_role_of_its_own_is_tried_by_itself_and_static_rewards_ask_nobody(
    here: Here,
) -> None:
    """What only limits or counts asks is no difference between two models."""
    model = Model()
    words = ("models.judge.model=other", "models.target.asks=3", "rewards=static")
    _, looks, _ = await tried(here, model, *words)
    assert looks["judge", "key"]["roles"] == ["judge"]
    assert looks["target", "structured output"]["said"].startswith("not needed")
    assert "never asked" in looks["rewarder", "model"]["said"]
    assert {body["model"] for body in model.bodies} == {"other", "gpt-4o-mini"}


async def test_m13_a_server_that_cuts_long_prompts_is_found_by_its_count(here: Here) -> None:
    """Far fewer tokens than the text can have: a proof, with what to do."""
    model = Model()
    model.reads = 4_096 * 5
    code, looks, said = await tried(here, model)
    found = looks["judge", "long prompt"]
    assert code == 1
    assert found["state"] == "bad"
    assert "cut silently" in found["said"]
    for server in ("num_ctx", "--max-model-len"):
        assert server in found["do"]
    assert said.splitlines()[-1].startswith("drpo: target, rewarder, judge (gpt-4o-mini): long")


async def test_m13_a_server_that_cuts_and_does_not_count_is_suspected(here: Here) -> None:
    """By the word that stands at the beginning; the short prompt has it."""
    model = Model()
    model.reads, model.counts = 4_096 * 5, False
    code, looks, _ = await tried(here, model)
    found = looks["judge", "long prompt"]
    assert code == 0
    assert found["state"] == "warning"
    assert "may cut long prompts silently" in found["said"]
    assert "not counted" in looks["judge", "call"]["said"]


async def test_m13_the_prompt_is_longer_than_what_a_search_may_send(here: Here) -> None:
    """Twice the longest prompt, and what a judge reads beside it."""
    model = Model()
    await tried(here, model, "search.max_prompt_tokens=6000")
    longest = max(len(body["messages"][-1]["content"]) for body in model.bodies)
    assert longest / 5 > 2 * 6000 > LEAST_LONG


async def test_m13_a_model_that_repeats_no_word_at_all_proves_nothing(here: Here) -> None:
    """Its silence about a long prompt is no sign that the prompt was cut."""
    model = Model()
    model.heeds = False
    _, looks, _ = await tried(here, model)
    assert "cannot be told" in looks["judge", "long prompt"]["said"]


async def test_a_prompt_that_is_refused_as_too_long_is_not_cut(here: Here) -> None:
    """The search gets a typed failure then, so it is a warning."""
    model = Model()
    said = "This model's maximum context length is 4096 tokens"
    model.late_fault = (400, {"message": said, "code": "context_length_exceeded"})
    words = ("models.target.multiple=false", "models.rewriter.multiple=false")
    code, looks, _ = await tried(here, model, *words)
    assert looks["target", "long prompt"]["state"] == "warning"
    assert "refused, and not cut" in looks["target", "long prompt"]["said"]
    assert code == 1


@pytest.mark.parametrize(
    ("changes", "state", "said"),
    [
        ({"enforces": False}, "warning", "ignores the schema"),
        ({"refuses": ["response_format"]}, "warning", "takes no schema"),
        ({"writes_json": False}, "bad", "not at all"),
    ],
    ids=["ignored", "refused", "no JSON"],
)
async def test_structured_output_is_enforced_parsed_or_not_there(
    changes: dict[str, Any], state: str, said: str, here: Here
) -> None:
    """An answer of another form than the schema's was not held to it."""
    model = Model()
    vars(model).update(changes)
    code, looks, _ = await tried(here, model)
    found = looks["judge", "structured output"]
    assert (found["state"], code) == (state, int(state == "bad"))
    assert said in found["said"]
    assert found["do"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"refuses": ["n"]}, "is refused"), ({"most_choices": 1}, "brings 1 of 2")],
    ids=["refused", "ignored"],
)
async def test_several_completions_may_have_to_be_asked_for_one_by_one(
    changes: dict[str, Any], said: str, here: Here
) -> None:
    """Only the rewriter asks for them."""
    model = Model()
    vars(model).update(changes)
    _, looks, _ = await tried(here, model)
    found = looks["rewriter", "several completions"]
    assert found["state"] == "warning"
    assert said in found["said"]
    assert "models.rewriter.multiple=false" in found["do"]


async def test_what_the_server_does_not_take_is_named(here: Here) -> None:
    """And left out, as the search does."""
    model = Model()
    model.refuses = ["seed", "max_completion_tokens"]
    code, looks, _ = await tried(here, model)
    assert code == 0
    assert looks["judge", "parameters"]["state"] == "warning"
    assert "seed" in looks["judge", "parameters"]["said"]


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ((401, {"message": f"bad key {KEY}", "code": "invalid_api_key"}), "OPENAI_API_KEY"),
        ((404, {"message": "no such model", "code": "model_not_found"}), "gpt-4o-mini"),
        ((500, {"message": "broken"}), "try again later"),
        ((402, {"message": "pay"}), "complains of"),
    ],
    ids=["key", "model", "broken", "other"],
)
async def test_a_refusal_is_told_with_what_to_do(
    fault: tuple[int, Mapping[str, Any]],
    advice: str,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a row and in one line, without the key that the server repeats."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    model = Model()
    model.fault = fault
    code, looks, said = told = await tried(here, model)
    assert code == 1
    assert states(told) == {"key": "ok", "server": "ok", "call": "bad", "price": "ok"}
    assert advice in looks["judge", "call"]["do"]
    assert said.splitlines()[-1].startswith("drpo: ")


async def test_one_broken_role_does_not_hide_the_others(here: Here) -> None:
    """No key, no server, and a model that is well, each with its own row."""
    model = Model()
    words = [
        "models.target.base_url=http://somewhere.invalid/v1",
        "models.rewarder.base_url=http://127.0.0.1:9/v1",
        "provider@models.rewriter=sandbox",
    ]
    code, looks, _ = await tried(here, model, *words)
    assert code == 1
    assert looks["target", "key"]["state"] == "bad"
    assert ("target", "server") not in looks
    assert looks["rewarder", "server"]["state"] == "bad"
    assert "cannot reach" in looks["rewarder", "server"]["said"]
    assert looks["judge", "long prompt"]["state"] == "ok"
    assert "simulated" in looks["rewriter", "model"]["said"]


async def test_b3_a_limit_in_dollars_without_a_price_is_bad(here: Here) -> None:
    """With the settings that give one."""
    code, looks, _ = await tried(here, Model(), "budget.cost_usd=1")
    assert code == 1
    assert looks["judge", "price"]["state"] == "bad"
    assert "models.judge.price_in" in looks["judge", "price"]["do"]


async def test_the_settings_are_those_of_a_search(here: Here, tmp_path: Path) -> None:
    """drpo.yaml and .env of the folder; with --models no word is needed."""
    model = Model()
    async with served(model) as base_url:
        (tmp_path / ".env").write_text(f"THEIR_KEY={KEY}\n")
        server = f"openai: {{base_url: '{base_url}', model: mine, api_key_env: THEIR_KEY}}\n"
        (tmp_path / "drpo.yaml").write_text(f"models: openai\n{server}")
        code, looks, _ = await examined(here, "--models")
    assert code == 0
    assert looks["judge", "key"]["said"] == "THEIR_KEY is set"
    assert {body["model"] for body in model.bodies} == {"mine"}


async def test_the_table_has_a_line_to_act_on(here: Here) -> None:
    """Of the tests' own server, which writes no JSON when it is not asked as a role."""
    async with OpenAIServer() as server:
        words = ("doctor", "models=openai", f"openai.base_url={server.base_url}")
        done = await asyncio.to_thread(here, *words)
    assert done.returncode == 1
    assert re.search(r"BAD +structured output", done.stdout)
    assert "What to do:\n  target, rewarder, judge, structured output: " in done.stdout


async def test_a_model_in_this_process_is_tried_as_well(here: Here, tmp_path: Path) -> None:
    """Without key or price; one that is not there is told of."""
    from tiny_model import tiny_model

    folder = tiny_model(tmp_path / "tiny")
    words = [f"provider@models.{role}=huggingface" for role in ("target", "judge")]
    words += [f"models.target.model={folder}", "models.judge.model=./nix"]
    code, looks, _ = await examined(here, *words)
    assert code == 1
    assert ("target", "key") not in looks
    assert looks["target", "call"]["said"]
    assert looks["target", "long prompt"]["said"]
    assert "this process" in looks["target", "price"]["said"]
    assert "models.judge.model=./nix" in looks["judge", "server"]["said"]


def test_the_simulated_models_are_asked_nothing(here: Here) -> None:
    """Without drpo.yaml they are the settings."""
    done = here("doctor", "--models")
    assert done.returncode == 0
    assert done.stderr == "No model has to be asked.\n"
    assert done.stdout.count("simulated") == 4
    dial = here("doctor", "models.judge.dials={nix: 1}")
    assert dial.returncode == 1
    assert "nix" in dial.stdout


@pytest.mark.parametrize("words", [("serch=1",), ("3f2a", "models=openai"), ("--config", "nix")])
def test_c6_bad_settings_are_one_line(words: tuple[str, ...], here: Here) -> None:
    """As those of a search."""
    done = here("doctor", *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not done.stdout


async def test_the_embedder_is_tried_with_one_word(here: Here) -> None:
    """Where examples are retrieved by one."""
    async with OpenAIServer() as server:
        words = ("retrieval.path=examples.jsonl", f"openai.base_url={server.base_url}")
        told = await asyncio.to_thread(here, "doctor", "embedder=openai", *words)
        [seen] = server.requests
    assert told.returncode == 0
    assert "One more request tries the embedder" in told.stderr
    assert "vectors of 256 numbers" in told.stdout
    assert seen.role == "embedder"


def test_words_need_no_try(here: Here) -> None:
    """And without examples nothing is said of them."""
    assert "needs no model" in here("doctor", "retrieval.path=examples.jsonl").stdout
    assert "retrieval" not in here("doctor").stdout


async def test_an_embedder_that_cannot_be_had_is_told(here: Here) -> None:
    """With what to mend."""
    async with OpenAIServer() as server:
        server.fail_next(status=404, code="model_not_found", role="embedder")
        words = ("retrieval.path=examples.jsonl", f"openai.base_url={server.base_url}")
        told = await asyncio.to_thread(here, "doctor", "embedder=openai", *words)
    assert told.returncode == 1
    assert "mend retrieval.embedder" in told.stdout
