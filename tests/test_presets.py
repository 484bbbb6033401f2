"""Each preset of models, and mixes of roles, through a whole tiny search on a local server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Here
from openai_server import OpenAIServer
from tiny_model import tiny_model

import drpo
from drpo.graph.values import ROLES
from drpo.settings import compose_settings

SEARCH = ("search=greedy", "search.levels=2", "search.max_extension=0", "data.limit=4")
KEY = "sk-nobody-0123456789"


def asked(server: OpenAIServer) -> set[str]:
    """Models that were asked for."""
    return {str((seen.body or {}).get("model")) for seen in server.requests}


@pytest.mark.parametrize("preset", ["openai", "ollama", "vllm"])
async def test_a_preset_runs_on_its_server_with_another_port(
    preset: str, server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four roles ask for the model that the preset names; no key but for api.openai.com."""
    if preset == "openai":
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    known = compose_settings([f"models={preset}"])
    words = [f"models={preset}"]
    if known.openai.base_url is None:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    else:
        own, there = urlsplit(known.openai.base_url), urlsplit(server.base_url)
        words.append(f"openai.base_url={own._replace(netloc=there.netloc).geturl()}")
    done = await drpo.optimize(*words, *SEARCH, runs=tmp_path)
    assert done.summary["status"] == "done"
    assert asked(server) == {known.openai.model}


async def test_the_sandbox_preset_asks_nobody(server: OpenAIServer, tmp_path: Path) -> None:
    """Though a server is named."""
    words = ("models=sandbox", f"openai.base_url={server.base_url}")
    done = await drpo.optimize(*words, *SEARCH, runs=tmp_path)
    assert done.summary["status"] == "done"
    assert not server.requests


async def test_the_local_preset_has_its_target_here(server: OpenAIServer, tmp_path: Path) -> None:
    """And the others on the server."""
    model = tiny_model(tmp_path / "tiny")
    words = ["models=local", f"models.target.model={model}", f"openai.base_url={server.base_url}"]
    words += ["models.target.max_tokens=16", "models.target.accept_truncated=true"]
    words += [f"models.{role}.model={role}" for role in ROLES if role != "target"]
    done = await drpo.optimize(*words, *SEARCH, runs=tmp_path)
    assert done.summary["status"] == "done"
    assert asked(server) == {"rewarder", "judge", "rewriter"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("provider", ["openai", "hf_endpoint", "langchain"])
async def test_one_role_on_a_server_and_the_others_simulated(
    provider: str,
    role: str,
    server: OpenAIServer,
    here: Here,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the command line alone."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    words = [f"provider@models.{role}={provider}", f"models.{role}.model={role}"]
    if provider == "langchain":
        words += [f"models.{role}._target_=langchain_openai.ChatOpenAI"]
        words += [f"models.{role}.options.base_url={server.base_url}"]
    else:
        words += [f"models.{role}.base_url={server.base_url}"]
    done = await drpo.optimize("models=sandbox", *words, *SEARCH, runs=tmp_path)
    assert done.summary["status"] == "done"
    assert asked(server) == {role}
