"""From an empty folder to a first result: `drpo init`, two lines edited, `drpo optimize`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli import drpo, told

from drpo.models.sandbox.world import world_sha256


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The sandbox over HTTP: its base URL."""
    words = [sys.executable, "-m", "drpo.models.sandbox", "--serve", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+/v1", server.stdout.readline())
        assert found is not None
        yield found[0]
        server.terminate()


def edited(folder: Path, base_url: str) -> None:
    """The two lines: which server, and which model."""
    path = folder / "drpo.yaml"
    text = path.read_text("utf-8")
    changed = text.replace("base_url: null", f"base_url: {base_url}")
    changed = changed.replace("model: gpt-4o-mini", "model: sandbox")
    lines = zip(text.splitlines(), changed.splitlines(), strict=True)
    assert sum(1 for before, after in lines if before != after) == 2
    path.write_text(changed, "utf-8")


def test_init_two_lines_and_optimize(served: str, tmp_path: Path) -> None:
    """On a server, through `models=openai`, without a key and without the docs."""
    begun = drpo("init", folder=tmp_path)
    assert begun.returncode == 0, begun.stderr
    assert "drpo estimate" in begun.stdout
    assert "drpo optimize" in begun.stdout
    edited(tmp_path, served)
    estimated = told("estimate", folder=tmp_path)
    found = told("optimize", "search.levels=3", folder=tmp_path)
    assert found["status"] == "done"
    assert found["models"]["judge"] == "sandbox"
    calls = sum(count["new"] for count in found["calls"].values())
    assert 0 < calls <= estimated["total"]["calls"]["high"]
    assert found["best"]["prompts"]["system"] != "You are a helpful assistant."


def test_what_init_writes_works_without_a_key(tmp_path: Path) -> None:
    """On the simulated models, as it says itself."""
    begun = drpo("init", "mine", folder=tmp_path)
    [command] = re.findall(r"drpo (optimize models=sandbox)", begun.stdout)
    found = told(*command.split(), "search.levels=2", folder=tmp_path / "mine")
    assert found["status"] == "done"
    assert found["world"]["sha256"] == world_sha256()


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """One line, and the folder is as it was."""
    (tmp_path / "queries.jsonl").write_text("mine")
    done = drpo("init", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["queries.jsonl"]


def test_a_key_is_read_from_a_file_beside_the_settings(tmp_path: Path) -> None:
    """And never reaches the run's file."""
    assert drpo("init", folder=tmp_path).returncode == 0
    asked = drpo("optimize", "openai.base_url=http://127.0.0.1.invalid/v1", folder=tmp_path)
    assert asked.returncode == 2
    assert ".env" in asked.stderr
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-planted0000\n")
    words = ["openai.base_url=http://127.0.0.1:9/v1", "models.rewarder.attempts=1"]
    gone = drpo("optimize", *words, folder=tmp_path)
    assert gone.returncode == 5, gone.stderr
    [path] = (tmp_path / "runs").glob("*.sqlite")
    assert b"planted" not in path.read_bytes()


@pytest.mark.parametrize("model", ["gpt-nix", "sandbox-nix"])
def test_a_model_that_the_server_does_not_know_is_bad_input(
    model: str, served: str, tmp_path: Path
) -> None:
    """One line with its name; nothing was paid, so no run is left."""
    words = [f"openai.model={model}", f"openai.base_url={served}", "models=openai"]
    done = drpo("optimize", *words, folder=tmp_path)
    assert done.returncode == 2
    assert model in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "runs").iterdir())


def test_a_model_that_goes_away_later_leaves_the_run(served: str, tmp_path: Path) -> None:
    """What was paid for is kept, and can be gone on with."""
    words = ["models=openai", f"openai.base_url={served}", "openai.model=sandbox"]
    done = drpo("optimize", *words, "models.judge.model=nix", folder=tmp_path)
    assert done.returncode == 5
    assert "drpo resume" in done.stderr
    assert drpo("runs", folder=tmp_path).stdout.count("paused") == 1
