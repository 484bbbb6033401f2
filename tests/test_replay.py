"""Recorded runs through the compiled graph: those of the paper's authors, and one of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import drpo
from drpo.checkpoints.reader import trace

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT.parent / "shared" / "reference"
FILES = ("gpt-3.5-turbo", "llama2-7b", "llama3-8b-instruct", "mistral-7b-v0.1")
Change = Callable[[dict[str, Any]], None]


def replay(*paths: Path) -> subprocess.CompletedProcess[str]:
    """The benchmark's command as the README gives it."""
    words = [sys.executable, "-m", "benchmarks.replay_reference", *map(str, paths)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(params=FILES)
def reference(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A recorded run of the paper's own code."""
    path = REFERENCE / f"{request.param}.json"
    if not path.exists():
        pytest.skip(f"the recorded runs are not here: {REFERENCE}")
    recorded: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return recorded


@pytest.fixture
async def own(tmp_path: Path) -> dict[str, Any]:
    """A search of ours on the sandbox, written down as the schema wants it."""
    result = await drpo.optimize("search=paper", "data.limit=7", "seed=4", runs=tmp_path / "runs")
    return recorded_form(trace(result.path), result.summary)


def recorded_form(nodes: list[dict[str, Any]], told: Any) -> dict[str, Any]:
    """A trace as `drpo-replay/1`; the sandbox's levels have one query each."""
    prompts = list(dict.fromkeys(node["prompts"]["system"] for node in nodes))
    depths = sorted({node["level"] for node in nodes})
    by_depth = {d: [node for node in nodes if node["level"] == d] for d in depths}
    limit, levels = 20, []
    for depth, here in by_depth.items():
        kept = sorted((n for n in here if n["beam_rank"] is not None), key=lambda n: n["beam_rank"])
        skipped = [n["candidate"] for n in kept if any("skipped" in d for d in n["decisions"])]
        levels.append(
            {
                "depth": depth,
                "nodes": [node["candidate"] for node in here],
                "beam": [node["candidate"] for node in kept],
                "beam_mean_reward": [node["path_value"] or 0.0 for node in kept],
                "depth_limit_at_entry": limit,
                "skipped": skipped,
            }
        )
        limit = min(30, limit + 1) if skipped else limit
    queries = [by_depth[depth][0]["verdicts"][0]["query"] for depth in depths]
    return {
        "schema": "drpo-replay/1",
        "prompts": prompts,
        "queries": queries,
        "levels": levels,
        "nodes": [recorded_node(node, nodes, prompts) for node in nodes],
        "terminal_node": told["best"]["candidate"],
        "cum_reward": told["best"]["path_value"],
        "path": [step["candidate"] for step in told["best"]["path"]],
    }


def recorded_node(
    node: dict[str, Any], nodes: list[dict[str, Any]], prompts: list[str]
) -> dict[str, Any]:
    """One candidate as the schema wants it."""
    [verdict] = node["verdicts"]
    scores = {s["aspect"]: {"rationale": "", "score": str(s["value"])} for s in verdict["scores"]}
    return {
        "id": node["candidate"],
        "parent": node["parent"],
        "depth": node["level"],
        "prompt": prompts.index(node["prompts"]["system"]),
        "query": verdict["query"],
        "output": verdict["answer"],
        "eval_dict": scores,
        "reward": node["reward"] if node["level"] else 0.0,
        "eval_mean": node["reward"],
        "children": [n["candidate"] for n in nodes if n["parent"] == node["candidate"]],
    }


def shorten_texts(recorded: dict[str, Any]) -> None:
    """Every text becomes a short id."""
    recorded["prompts"] = [f"p{n}" for n in range(len(recorded["prompts"]))]
    recorded["queries"] = [f"q{n}" for n in range(len(recorded["queries"]))]
    for node in recorded["nodes"]:
        node["output"], node["query"] = f"o{node['id']}", f"q{node['depth']}"
        for number, said in enumerate(node["eval_dict"].values()):
            said["rationale"] = f"r{node['id']}.{number}"


def change_score(position: float) -> Change:
    """One score, at a relative position among the nodes, becomes another one."""

    def change(recorded: dict[str, Any]) -> None:
        judged = [node for node in recorded["nodes"] if node["eval_dict"]]
        said = next(iter(judged[int(position * (len(judged) - 1))]["eval_dict"].values()))
        said["score"] = "1" if float(said["score"]) > 1 else "2"

    return change


def changed(recorded: dict[str, Any], change: Change | None, path: Path) -> Path:
    """The file of a recorded run after a change."""
    if change is not None:
        change(recorded)
    path.write_text(json.dumps(recorded), "utf-8")
    return path


@pytest.mark.parametrize("change", [None, shorten_texts], ids=["as recorded", "texts as ids"])
def test_a_run_of_the_authors_is_matched_bit_for_bit(
    reference: dict[str, Any], change: Change | None, tmp_path: Path
) -> None:
    """The same candidates, beams, limits, skips, rewards and path values, at every level."""
    done = replay(changed(reference, change, tmp_path / "recorded.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "same" in done.stdout


@pytest.mark.parametrize("position", [0.0, 0.37, 1.0])
def test_one_changed_score_of_the_authors_run_is_noticed(
    reference: dict[str, Any], position: float, tmp_path: Path
) -> None:
    """Whichever candidate it belongs to, kept or dropped, first or last."""
    done = replay(changed(reference, change_score(position), tmp_path / "recorded.json"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DIFFERENT" in done.stdout


def test_a_run_of_our_own_is_matched(own: dict[str, Any], tmp_path: Path) -> None:
    """What the sandbox answered once gives the same tree when it is played back."""
    done = replay(changed(own, None, tmp_path / "recorded.json"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("position", [0.0, 0.5, 1.0])
def test_one_changed_score_of_our_own_run_is_noticed(
    own: dict[str, Any], position: float, tmp_path: Path
) -> None:
    """The comparison looks at every candidate."""
    done = replay(changed(own, change_score(position), tmp_path / "recorded.json"))
    assert done.returncode == 1, done.stdout + done.stderr


def test_a_changed_beam_order_is_noticed(own: dict[str, Any], tmp_path: Path) -> None:
    """The order inside the beam is part of the record."""
    level = next(level for level in own["levels"] if len(level["beam"]) > 1)
    level["beam"].reverse()
    done = replay(changed(own, None, tmp_path / "recorded.json"))
    assert done.returncode == 1


def test_another_schema_is_refused(tmp_path: Path) -> None:
    """A file of something else is bad input, not a difference."""
    path = tmp_path / "other.json"
    path.write_text('{"schema": "something/2"}')
    done = replay(path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
