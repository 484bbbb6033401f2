"""Recorded runs of the paper's authors as finished runs, for every verb that looks at a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Here

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


def test_another_file_is_refused(tmp_path: Path) -> None:
    """In one line."""
    path = tmp_path / "other.json"
    path.write_text("[]")
    done = imported(path, runs=tmp_path)
    assert done.returncode == 2
    assert "not a recorded run" in done.stderr
    assert "Traceback" not in done.stderr
