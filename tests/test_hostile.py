"""Whole searches on models that say anything but what they were asked for."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import drpo
from drpo.cli import app
from drpo.graph.values import Role
from drpo.models import providers
from drpo.models.provider import Call, Completion
from drpo.models.sandbox.provider import Sandbox

HOSTILE = [
    "",
    " \n\t ",
    "null",
    "N/A",
    "x" * 1_000_000,
    "\x00\x1b[2J\x1b]0;owned\x07\u202e[bold red]x[/]",
    "{" * 20_000,
    '{"a":' * 5_000,
    '{"verdict": "5", "aspects": 5, "prompts": 5}',
    '{"verdict": {"Clarity": {"score": "\\ud800"}}, "aspects": {"a": null}}',
    '{"prompts": {"system": "\\ud800"}, "aspects": [{"name": "a", "definition": "\\udfff"}]}',
    '{"prompts": {"system": "{{ 7*7 }} {% for %} [OUTPUT] ${oc.env:HOME}"}, "aspects": ["Wit"]}',
    '{"verdict": [{"aspect": "Clarity", "score": 1e400, "rationale": {"a": [1]}}]}',
    '{"prompts": {"system": "\\u0000"}, "aspects": [{"name": "\\u0000", "definition": "\\u0000"}]}',
    "```json\n```",
    "[[[[]]]]",
    json.dumps({"verdict": [{"aspect": "Clarity", "score": 10**30}] * 50}),
]


ON = "budget.failures=null"
"""However much fails."""


class Hostile(Sandbox):
    """Every third reply is the sandbox's own; the others are anything, too few, or too many."""

    broken: frozenset[Role] = frozenset({"target", "rewarder", "judge", "rewriter"})

    def __init__(self, settings: Any, role: Role) -> None:
        super().__init__(settings, role)
        self._broken = role in self.broken

    async def complete(self, call: Call) -> Completion:
        """Chosen by a hash of the messages."""
        said = await super().complete(call)
        text = "".join(turn.content for turn in call.messages)
        draw = int(hashlib.sha256(text.encode()).hexdigest(), 16)
        if not self._broken or draw % 3 == 0:
            return said
        count = (call.n, 1, call.n + 2, 0)[draw // 3 % 4]
        texts = tuple(HOSTILE[(draw + n) % len(HOSTILE)] for n in range(count))
        return Completion(
            texts=texts,
            finish_reasons=("", "length", "content_filter")[: draw % 4],
            prompt_tokens=None,
            completion_tokens=None,
        )


@pytest.mark.parametrize("search", ["paper", "quick"])
@pytest.mark.parametrize("broken", [["target"], ["rewarder"], ["judge"], ["rewriter"], None])
def test_a_search_ends_whatever_the_models_say(
    search: str, broken: list[Role] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, can be shown in every view, and another run of it is the same."""
    monkeypatch.setattr(providers, "Sandbox", Hostile)
    if broken is not None:
        monkeypatch.setattr(Hostile, "broken", frozenset(broken))
    words = (f"search={search}", "search.levels=8", "search.max_extension=2", ON)
    first, again = (drpo.optimize_blocking(*words, runs=tmp_path) for _ in range(2))
    assert first.summary["status"] == "done"
    assert first.summary["tree_sha256"] == again.summary["tree_sha256"]
    for view in ("summary", "tree", "trace"):
        shown = CliRunner().invoke(app, ["show", "--view", view, "--runs", str(tmp_path)])
        assert shown.exit_code == 0, shown.output
        assert "\x1b" not in shown.output
        told = CliRunner().invoke(app, ["show", "--view", view, "--runs", str(tmp_path), "--json"])
        found: Mapping[str, Any] = json.loads(told.output)
        assert found["status"] == "done"


def test_a_hostile_judge_alone_decides_no_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says wrong is counted as unscored, not as a number."""
    monkeypatch.setattr(providers, "Sandbox", Hostile)
    monkeypatch.setattr(Hostile, "broken", frozenset({"judge"}))
    result = drpo.optimize_blocking("search.levels=8", ON, runs=tmp_path)
    assert result.summary["unscored"] > 0
    assert result.path_value is not None
    assert 1 <= result.path_value <= 5


@pytest.mark.parametrize("view", ["summary", "tree", "trace", "examples"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_i4_no_view_acts_on_a_terminal(view: str, form: list[str], tmp_path: Path) -> None:
    """As text and as JSON, which has the same texts."""
    path = drpo.optimize_blocking("experiment=smoke", runs=tmp_path).path
    hostile = "\x1b[2J\x9b31m\u202e[bold]=1+1"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update text set body = ?", [hostile])
        db.execute("update selection set reason = ?", [hostile])
        db.execute("update decision set reason = ?", [hostile])
        db.execute("update verdict set unscored = ?, reward = null", [hostile])
        db.execute("update run set reason = ?", [hostile])
    shown = CliRunner().invoke(app, ["show", "--view", view, *form, "--runs", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert not {"\x1b", "\x9b", "\u202e"} & {*shown.output}
    if form and view == "summary":
        assert json.loads(shown.output)["best"]["prompts"]["system"] == hostile
