"""What every test may rely on: strict checkpoints, and nothing of the developer's own shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openai_server import OpenAIServer

    from drpo.checkpoints.store import RunStore

# LangGraph reads it once, when it is first imported: a fixture would come too late.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

FROM_OUTSIDE = ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "DRPO_RUNS")
"""No test may find real runs, or pay for a call."""


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's own settings are not there."""
    for name in FROM_OUTSIDE:
        monkeypatch.delenv(name, raising=False)


Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """One command in this process and in `tmp_path`: a tenth of the time of one of its own."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        from drpo.cli import main

        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as left:
            main(words)
        said = capsys.readouterr()
        code = left.value.code
        assert isinstance(code, int)
        heard = said.err.replace("starting ...\n", "")
        return subprocess.CompletedProcess(words, code, said.out, heard)

    return run


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RunStore]:
    """Of a run that never began."""
    from drpo.checkpoints.runs import create_run
    from drpo.checkpoints.store import open_store

    run = create_run(tmp_path, settings="{}", fingerprint={}, queries=[], version="test")
    async with open_store(run.path) as opened:
        yield opened


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    """A local one that speaks the OpenAI protocol."""
    from openai_server import OpenAIServer

    async with OpenAIServer() as running:
        yield running


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow at once."""
    monkeypatch.setattr("drpo.models.provider.FIRST_BACKOFF_S", 0.0001)
