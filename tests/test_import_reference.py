"""Recorded runs of the paper's authors as finished runs, for every verb that looks at a run."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Here

from benchmarks import import_reference, replay_reference
from drpo.checkpoints.doctor import examine
from drpo.checkpoints.reader import summary, trace
from drpo.checkpoints.runs import run_paths

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT.parent / "shared" / "reference"
FILES = ("gpt-3.5-turbo", "llama2-7b", "llama3-8b-instruct", "mistral-7b-v0.1")


def imported(*files: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    """The benchmark's command as the documentation gives it."""
    words = [sys.executable, "-m", "benchmarks.import_reference", *map(str, files)]
    words += ["--runs", str(runs)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four recorded runs."""
    files = [REFERENCE / f"{name}.json" for name in FILES]
    if not all(file.exists() for file in files):
        pytest.skip(f"the recorded runs are not here: {REFERENCE}")
    folder = tmp_path_factory.mktemp("recorded")
    done = imported(*files, runs=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_recorded_run_is_a_finished_run(name: str, runs: Path) -> None:
    """With every candidate, answer, rationale and the result of its file."""
    recorded = json.loads((REFERENCE / f"{name}.json").read_text("utf-8"))
    [path] = [p for p in run_paths(runs) if summary(p)["models"]["target"] == recorded["model"]]
    told, nodes = summary(path), trace(path)
    assert told["status"] == "done"
    assert told["best"]["candidate"] == recorded["terminal_node"]
    assert told["best"]["path_value"] == recorded["cum_reward"]
    assert len(nodes) == len(recorded["nodes"])
    for ours, theirs in zip(nodes, recorded["nodes"], strict=True):
        [verdict] = ours["verdicts"]
        assert verdict["answer"] == theirs["output"]
        said = {each["aspect"]: each["rationale"] for each in verdict["scores"]}
        assert said == {name: each["rationale"] for name, each in theirs["eval_dict"].items()}
    assert all(each.ok for each in examine(path))


def test_every_verb_that_looks_takes_it(runs: Path, here: Here) -> None:
    """Show, list, examine, export."""
    for words in (["show"], ["show", "--view", "tree"], ["runs"], ["doctor"], ["export"]):
        done = here(*words, "--runs", str(runs))
        assert done.returncode == 0, done.stderr


def test_a_search_that_goes_elsewhere_leaves_no_run(tmp_path: Path) -> None:
    """What is not the recorded tree is not taken for it."""
    source = REFERENCE / "gpt-3.5-turbo.json"
    if not source.exists():
        pytest.skip(f"the recorded runs are not here: {REFERENCE}")
    recorded = json.loads(source.read_text("utf-8"))
    recorded["cum_reward"] += 0.1
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(recorded), "utf-8")
    done = imported(changed, runs=tmp_path / "runs")
    assert done.returncode == 1
    assert "path value" in done.stderr
    assert not run_paths(tmp_path / "runs")


def node(number: int, parent: int | None, children: list[int]) -> dict[str, Any]:
    """A candidate as the schema has it."""
    said = {"Clarity": {"rationale": "It is clear.", "score": "4"}}
    return {
        "id": number,
        "parent": parent,
        "depth": number,
        "prompt": 0,
        "output": "Yes.",
        "eval_dict": said,
        "reward": 4.0,
        "eval_mean": 4.0,
        "children": children,
    }


def level(number: int) -> dict[str, Any]:
    """A level of one candidate."""
    return {
        "depth": number,
        "nodes": [number],
        "beam": [number],
        "beam_mean_reward": [4.0],
        "depth_limit_at_entry": 20,
        "skipped": [],
    }


RECORDED: dict[str, Any] = {
    "schema": "drpo-replay/1",
    "prompts": ["Help."],
    "queries": ["Is it so?", "And so?"],
    "nodes": [node(0, None, [1]), node(1, 0, [])],
    "levels": [level(0), level(1)],
    "terminal_node": 1,
    "cum_reward": 4.0,
    "path": [0, 1],
}
GONE = "gone"
"""In place of a value: there is none."""
ODD: list[tuple[str, Any, str]] = [
    ("schema", "other/2", "schema: Input should be 'drpo-replay/1'"),
    ("nodes", {"0": 1}, "nodes: Input should be a valid array"),
    ("nodes", [], "nodes: List should have at least 1 item"),
    ("nodes.1", None, "nodes.1: Input should be an object"),
    ("nodes.1.id", 0, "nodes.1.id: it is 0; nodes are numbered in order, from 0"),
    ("nodes.1.id", 10**30, "nodes.1.id: Input should be less than"),
    ("nodes.1.parent", None, "nodes.1.parent: it is None; allowed is an earlier node"),
    ("nodes.1.parent", 1, "nodes.1.parent: it is 1; allowed is an earlier node"),
    ("nodes.0.parent", 0, "nodes.0.parent: it is 0; allowed is null alone"),
    ("nodes.1.prompt", 1, "nodes.1.prompt: it is 1; allowed are numbers below 1"),
    ("nodes.1.depth", 2, "nodes.1.depth: it is 2; allowed are numbers below 2"),
    ("nodes.1.output", None, "nodes.1.output: Input should be a valid string"),
    ("nodes.1.reward", math.nan, "nodes.1.reward: Input should be a finite number"),
    ("nodes.1.children", [7], "nodes.1.children: there is no node 7, only 0 to 1"),
    ("nodes.1.eval_dict", "good", "nodes.1.eval_dict: Input should be an object"),
    ("nodes.1.eval_dict.Clarity", "good", "nodes.1.eval_dict.Clarity: Input should be an object"),
    ("nodes.1.eval_dict.Clarity.score", None, "score: a score is a number, or a text"),
    ("nodes.1.eval_dict.Clarity.score", math.inf, "score: a score is a number, or a text"),
    ("nodes.1.eval_dict.Clarity.rationale", GONE, "rationale: Field required"),
    ("levels", GONE, "levels: Field required"),
    ("levels.1", GONE, "nodes.1.depth: it is 1; allowed are numbers below 1"),
    ("levels.1.depth", 0, "levels.1.depth: it is 0; levels are in order, from 0"),
    ("levels.1.beam", [9], "levels.1.beam: there is no node 9, only 0 to 1"),
    ("levels.1.beam", [], "levels.1.beam_mean_reward: there has to be one for each of the beam"),
    ("levels.1.skipped", "1", "levels.1.skipped: Input should be a valid array"),
    ("queries", [], "queries: there are 0 for 2 levels"),
    ("queries.1", "\ud800", "Invalid JSON"),
    ("prompts", [], "nodes.0.prompt: it is 0; allowed are numbers below 0"),
    ("terminal_node", 2, "terminal_node: there is no node 2, only 0 to 1"),
    ("path", [0, 5], "path: there is no node 5, only 0 to 1"),
    ("cum_reward", "4", "cum_reward: Input should be a valid number"),
    ("model", 5, "model: Input should be a valid string"),
]


def told(
    read: Callable[[list[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Its exit code, and what it says on either stream."""
    code = read(words)
    said = capsys.readouterr()
    return code, said.out + said.err


def check_refused(file: Path, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By both readers, in one line that begins with the file; nothing is made."""
    runs = file.parent / "runs"
    for code, line in (
        told(import_reference.main, [str(file), "--runs", str(runs)], capsys),
        told(replay_reference.main, [str(file)], capsys),
    ):
        assert code == 2
        assert line.startswith(f"{file}: not a recorded run: ")
        assert said in line
        assert line.count("\n") == 1
    assert not runs.exists()


def test_a_file_that_says_what_it_has_to_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That our search goes otherwise is another matter, and leaves no run."""
    file, runs = tmp_path / "recorded.json", tmp_path / "runs"
    file.write_text(json.dumps(RECORDED), "utf-8-sig")
    code, line = told(import_reference.main, [str(file), "--runs", str(runs)], capsys)
    assert code == 1
    assert line.startswith(f"{file}: the search goes elsewhere: ")
    assert not list(runs.iterdir())


@pytest.mark.parametrize(("where", "value", "said"), ODD)
def test_what_is_odd_in_a_recorded_run_is_named(
    where: str, value: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its place, and what is allowed there."""
    recorded = copy.deepcopy(RECORDED)
    *above, last = (int(part) if part.isdecimal() else part for part in where.split("."))
    inside: Any = recorded
    for part in above:
        inside = inside[part]
    if value == GONE:
        del inside[last]
    else:
        inside[last] = value
    file = tmp_path / "recorded.json"
    file.write_text(json.dumps(recorded))
    check_refused(file, said, capsys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"[]", "Input should be an object"),
        (b"{}", "schema: Field required"),
        (b"[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        (b"\xff{}", "it is not UTF-8 (byte 0)"),
        (None, "Is a directory"),
    ],
)
def test_another_file_is_refused(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line."""
    file = tmp_path / "other.json"
    file.mkdir() if content is None else file.write_bytes(content)
    check_refused(file, said, capsys)
