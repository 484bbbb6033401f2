"""What README and docs say holds: commands, code, drawing, tree, settings, links, choices."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import config_page
import faults_page
import pytest
import yaml
from openai_server import OpenAIServer
from tiny_model import tiny_model

import drpo
from drpo.cli import main
from drpo.config_file import own_words
from drpo.graph.build import draw
from drpo.settings import choices, compose_settings, groups

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
SETUP = "python3 -m pip"
"""How the commands begin that install drpo; .ci/run has them."""


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def plain_block(beginning: str) -> str:
    """The README's block without a language that begins so."""
    [block] = re.findall(
        rf"^```\n({re.escape(beginning)}.*?)^```", README, re.DOTALL | re.MULTILINE
    )
    return str(block)


def recipes() -> list[tuple[str, str]]:
    """Shell scripts: the whole of README and start, each section of the others."""
    found = [("README", "\n".join(b for b in blocks(README, "sh") if not b.startswith(SETUP)))]
    for name, text in PAGES.items():
        parts = [text] if name == "start" else re.split(r"^## ", text, flags=re.MULTILINE)
        for part in parts:
            script = "\n".join(blocks(part, "sh"))
            if script:
                found.append((f"{name}: {part.splitlines()[0]}", script))
    return found


async def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In an empty folder, api.openai.com being a local server."""
    async with OpenAIServer() as server:
        known = os.environ | {
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "local",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        return await asyncio.to_thread(
            subprocess.run,
            ["bash", "-ec", script],
            cwd=folder,
            env=known,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def test_ci_runs_the_readmes_own_test_command() -> None:
    """`.ci/run` has the command of the README, word for word."""
    [command] = [line for line in README.splitlines() if "uv run pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readmes_first_command_runs_the_sandbox() -> None:
    """Two commands do all the set-up: one runs the main job, one the tests."""
    first, second = [block.strip() for block in blocks(README, "sh") if block.startswith(SETUP)]
    assert first.endswith("uv run --no-dev drpo optimize")
    assert second.endswith("uv run pytest")


def test_the_readme_shows_the_real_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line but the dots."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["optimize"])
    printed = capsys.readouterr().out.splitlines()
    shown = plain_block("Best prompt").replace("...", "").splitlines()
    assert len(shown) > 9
    assert {line for line in shown if line.strip()} <= set(printed)


@pytest.mark.parametrize(("name", "script"), recipes(), ids=[name for name, _ in recipes()])
async def test_the_commands_of_a_page_work_in_order(name: str, script: str, tmp_path: Path) -> None:
    """Each ends well."""
    done = await run_script(script, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def code_of_pages() -> list[str]:
    """Python of README and docs."""
    return [code for text in (README, *PAGES.values()) for code in blocks(text, "python")]


@pytest.mark.parametrize("code", code_of_pages())
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


@pytest.mark.parametrize("text", blocks(PAGES["models"], "yaml"))
def test_the_files_of_the_models_page_are_settings(text: str, tmp_path: Path) -> None:
    """Each as somebody's drpo.yaml."""
    own = tmp_path / "drpo.yaml"
    own.write_text(text)
    found = compose_settings(own_words(own)).model_dump(mode="json", by_alias=True)
    said = yaml.safe_load(text)
    assert said.get("openai", {}).items() <= found["openai"].items()
    roles = said["models"]
    for role, values in roles.items() if isinstance(roles, dict) else ():
        assert values.items() <= found["models"][role].items()


def test_the_readme_shows_the_compiled_graph() -> None:
    """The drawing is the graph's own, with every node in it."""
    [mermaid] = blocks(README, "mermaid")
    assert mermaid.strip() == draw().strip()
    for node in ("select_rewards", "rewrite", "admit", "sample", "judge", "advance"):
        assert node in mermaid


def test_the_readmes_tree_names_every_module() -> None:
    """And no file that is not there."""
    tree = plain_block("app/ ")
    named: set[str] = set()
    folder = ""
    for line in tree.splitlines():
        if not line.startswith(" "):
            folder = line.split()[0]
        elif line.startswith("  ") and not line.startswith("   "):
            named.add(folder + line.split()[0])
    there = {
        str(path.relative_to(ROOT))
        for package in ("app", "graph", "nodes", "models", "checkpoints")
        for path in (ROOT / package).glob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert {name for name in named if name.endswith(".py")} == there
    assert all((ROOT / name).exists() for name in named)


def test_the_recorded_first_hour_is_what_start_says() -> None:
    """An empty folder, init, two lines, estimate and optimize, with what came of it."""
    cast = (ROOT / "docs" / "first-hour.cast").read_text("utf-8")
    events = [json.loads(line) for line in cast.splitlines()]
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", "".join(event[2] for event in events[1:]))
    steps = ["drpo init", "base_url: http://", "model: sandbox", "drpo estimate", "drpo optimize"]
    typed = [line.split("$ ")[-1] for line in shown.splitlines() if "$ " in line]
    for step in steps:
        assert any(step in line for line in typed), step
    assert "Best prompt (candidate" in shown


def test_links_of_the_pages_lead_somewhere() -> None:
    """Every relative link is a file, and has the section it names."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link, section in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
            target = page.parent / link if link else page
            assert target.exists(), (page, link)
            if section:
                titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
                assert section in [title.lower().replace(" ", "-") for title in titles]


def test_the_configuration_page_is_the_schemas() -> None:
    """`python tests/config_page.py > docs/config.md` was run, and every setting is explained."""
    assert PAGES["config"] == config_page.page()
    assert not re.findall(r"^.*\| *\|$", PAGES["config"], re.MULTILINE)


def test_every_row_of_the_faults_has_a_test_that_the_page_names() -> None:
    """`python tests/faults_page.py` was run, and everything passed."""
    found = faults_page.tests_by_row()
    assert all(found.values()), [row for row, names in found.items() if not names]
    row = r"^\| (\w\d+) \| .* \| (`.*`) \| (\d+) of (\d+) passed"
    rows = re.findall(row, PAGES["faults"], re.MULTILINE)
    assert {said: re.findall("`(.*?)`", names) for said, names, *_ in rows} == found
    assert all(good == cases != "0" for *_, good, cases in rows)


@pytest.mark.parametrize(
    "choice", [f"{group}={name}" for group in groups() for name in choices(group)]
)
async def test_every_choice_of_the_configuration_runs(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two levels of a search with each of them, on a local server or a tiny local model."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    group, _, name = choice.partition("=")
    local = choice in ("models=local", "provider=huggingface")
    role = "target" if local else "judge"
    words = [choice]
    if group == "provider":
        words = [f"provider@models.{role}={name}"]
    if local:
        tiny = tiny_model(tmp_path / "tiny")
        words += [f"models.target.model={tiny}", "models.target.accept_truncated=true"]
        words += ["models.target.max_tokens=24"]
    if name == "langchain":
        words += ["models.judge._target_=langchain_openai.ChatOpenAI", "models.judge.model=judge"]
    async with OpenAIServer() as server:
        if group == "models" or "openai" in choice:
            words += [f"openai.base_url={server.base_url}"]
        if name == "hf_endpoint":
            words += [f"models.judge.base_url={server.base_url}"]
        if name == "langchain":
            words += [f"models.judge.options.base_url={server.base_url}"]
        result = await drpo.optimize(*words, "search.levels=2", runs=tmp_path)
    assert result.summary["status"] == "done"
    assert result.examples or result.path_value is not None
