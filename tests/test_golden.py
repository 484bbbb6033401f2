"""A run's file of every schema that ever landed opens, shows and goes on (FAULTS C3).

Each was made by the drpo of its time, stopped by a budget of nine calls: `drpo optimize
search=greedy search.levels=3 search.queries_per_level=1 budget.calls=9`.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Here
from sqlite_utils import Database

import drpo
from drpo.checkpoints.doctor import examine
from drpo.checkpoints.runs import run_paths
from drpo.checkpoints.schema import migrations
from drpo.fork import fork
from drpo.graph.errors import BadInput

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.sqlite"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy under the run's own id."""
    with closing(sqlite3.connect(f"{request.param.as_uri()}?mode=ro", uri=True)) as db:
        [(run_id,)] = db.execute("select id from run")
    folder = tmp_path / "runs"
    folder.mkdir()
    return Path(shutil.copy(request.param, folder / f"{run_id}.sqlite"))


def test_c3_the_newest_schema_is_among_them() -> None:
    """A migration that lands brings its file."""
    newest = max(each.name for each in migrations.pending(_empty()))
    assert GOLDEN[-1].stem == newest.partition("_")[0]


def _empty() -> Database:
    return Database(memory=True)


def test_c3_an_older_file_is_shown(path: Path, here: Here) -> None:
    """In every view, by reading alone."""
    before = path.read_bytes()
    for view in ("summary", "tree", "trace", "why"):
        shown = here("show", "--view", view)
        assert shown.returncode == 0, shown.stderr
        assert path.stem in shown.stdout
    assert path.stem[:8] in here("runs").stdout
    assert all(each.ok for each in examine(path))
    assert path.read_bytes() == before


def test_c3_an_older_run_goes_on(path: Path) -> None:
    """Resumed as it is, or in a fork where the program's words have changed since."""
    try:
        done = drpo.resume_blocking(path.stem, "budget.calls=null", runs=path.parent)
    except BadInput as refused:
        assert re.search("changed since it began.*drpo fork", str(refused))  # noqa: PT017 - it may be resumed as well
        copy = fork(path, overrides=["budget.calls=null"])
        done = drpo.resume_blocking(copy.id, runs=path.parent)
    assert done.summary["status"] == "done"
    assert done.summary["level"] >= 3
    assert done.path in run_paths(path.parent)
