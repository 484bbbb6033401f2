"""What every test may rely on: strict checkpoints, and nothing of the developer's own shell."""

from __future__ import annotations

import os

import pytest

# LangGraph reads it once, when it is first imported: a fixture would come too late.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

FROM_OUTSIDE = ("OPENAI_API_KEY", "OPENAI_API_BASE", "OPENAI_BASE_URL", "DRPO_RUNS")
"""No test may find real runs, or pay for a call."""


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's own settings are not there."""
    for name in FROM_OUTSIDE:
        monkeypatch.delenv(name, raising=False)
