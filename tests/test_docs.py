"""What README and guide say holds: commands, drawing, settings, code, links, choices."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from openai_server import OpenAIServer

import drpo
from drpo.graph.build import draw
from drpo.graph.values import ROLES
from drpo.settings import _composed, choices, groups

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    """The shell commands of a page, one a line, continued lines joined."""
    joined = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip()]


def run_drpo(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """One `drpo ...` command of a page."""
    words = [sys.executable, "-m", "drpo", *shlex.split(command)[1:]]
    return subprocess.run(
        words,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_ci_runs_the_readmes_own_test_command() -> None:
    """`.ci/run` has the command of the README, word for word."""
    [command] = [line for line in commands(README) if "pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readmes_first_command_runs_the_sandbox() -> None:
    """Two commands do all the set-up: one runs the main job, one the tests."""
    first, second = commands(README)[:2]
    assert first.endswith("uv run --no-dev drpo optimize")
    assert second.endswith("uv run pytest --cov")


def test_the_readmes_sandbox_commands_work_in_order(tmp_path: Path) -> None:
    """optimize, runs, show in its views, resume: each ends well in an empty folder."""
    wanted = [
        line for line in commands(README) if line.startswith("drpo ") and "openai" not in line
    ]
    assert len(wanted) == 7
    for command in wanted:
        done = run_drpo(command, tmp_path)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout


async def test_the_readmes_paid_command_works(tmp_path: Path) -> None:
    """The command for real models, against a local server."""
    [command] = [line for line in commands(README) if "models=openai" in line]
    (tmp_path / "my_prompt.md").write_text("You mend bicycles.\n")
    (tmp_path / "my_queries.jsonl").write_text(
        "".join(f'{{"text": "My chain slips on cog {cog}."}}\n' for cog in range(6))
    )
    async with OpenAIServer() as server:
        urls = " ".join(f"models.{role}.base_url={server.base_url}" for role in ROLES)
        process = await _off_loop(f"{command} {urls}", tmp_path)
    assert process.returncode == 0, process.stderr
    assert "at most" in process.stderr


async def _off_loop(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a thread, because the server answers from this loop."""
    import asyncio

    return await asyncio.to_thread(run_drpo, command, folder, OPENAI_API_KEY="local")


def test_the_guides_sql_works(tmp_path: Path) -> None:
    """The look at a run's file by sqlite-utils."""
    assert run_drpo("drpo optimize experiment=smoke", tmp_path).returncode == 0
    [command] = [line for line in commands(GUIDE) if line.startswith("sqlite-utils")]
    command = command.replace("sqlite-utils", f"{shlex.quote(sys.executable)} -m sqlite_utils", 1)
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rewarder" in done.stdout


@pytest.mark.parametrize("code", [*blocks(README, "python"), *blocks(GUIDE, "python")])
def test_the_python_of_the_pages_runs(code: str, tmp_path: Path) -> None:
    """On the sandbox, in an empty folder, at top level or through its `main`."""
    if "async def main" in code:
        code += "\nimport asyncio\nasyncio.run(main())\n"
    else:
        body = "\n".join(f"    {line}" for line in code.splitlines())
        code = f"import asyncio\nasync def main():\n{body}\nasyncio.run(main())\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_readme_shows_the_compiled_graph() -> None:
    """The drawing is the graph's own, with every node in it."""
    [mermaid] = blocks(README, "mermaid")
    assert mermaid.strip() == draw().strip()
    for node in ("select_rewards", "rewrite", "admit", "sample", "judge", "advance"):
        assert node in mermaid


def test_links_of_the_pages_lead_somewhere() -> None:
    """Every relative link is a file."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), (page, link)


def test_every_setting_of_the_guide_exists() -> None:
    """The first column of the table names keys of the configuration, and all its sections."""
    table = GUIDE.partition("## Settings")[2].partition("## Queries")[0]
    config, simulated = _composed(["models=openai"]), _composed([])
    for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        parent = first.rpartition(".")[0]
        for name in (first, *(parent + other for other in others if other.startswith("."))):
            key = name.replace("<role>", "judge").removeprefix("provider@")
            there = [OmegaConf.select(each, key, default="absent") for each in (config, simulated)]
            assert there != ["absent"] * 2 or key == "experiment", name
    for section in config:
        assert f"`{section!s}" in table, section


@pytest.mark.parametrize(
    "choice", [f"{group}={name}" for group in groups() for name in choices(group)]
)
async def test_every_choice_of_the_configuration_runs(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two levels of a search with each of them, the OpenAI ones on a local server."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    words = [choice.replace("provider=", "provider@models.judge=")]
    async with OpenAIServer() as server:
        if "openai" in choice:
            roles = ["judge"] if choice.startswith("provider") else list(ROLES)
            words += [f"models.{role}.base_url={server.base_url}" for role in roles]
        result = await drpo.optimize(*words, "search.levels=2", runs=tmp_path)
    assert result.summary["status"] == "done"
    assert result.path_value is not None
