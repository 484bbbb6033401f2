"""The wheel holds all that a search needs, outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from this checkout, in an isolated environment."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(out)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = out.glob("*.whl")
    return built


def test_everything_is_installed_below_drpo(wheel: Path) -> None:
    """No top-level `graph` or `nodes` that would collide with somebody's own."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"drpo"}


def test_data_files_and_type_marks_come_along(wheel: Path) -> None:
    """Configuration, templates, queries, the Explorer's page and `py.typed` of every package."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("conf", "nodes"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".yaml", ".jinja", ".jsonl"):
                assert f"drpo/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "app" / "explorer").iterdir():
        if path.suffix in (".html", ".css", ".js"):
            assert f"drpo/explorer/{path.name}" in names
    assert "drpo/py.typed" in names
    for package in ("checkpoints", "conf", "explorer", "graph", "models", "nodes"):
        assert f"drpo/{package}/py.typed" in names


def test_a_search_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Unpacked somewhere else, without the checkout in sight."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "drpo", "optimize", "experiment=smoke", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"
