"""Every question of docs/sql.md works on a run and on an alignment, and the page's columns hold."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import drpo

PAGE = (Path(__file__).parents[1] / "docs" / "sql.md").read_text("utf-8")
QUESTIONS = dict(re.findall(r"^## ([^\n]*\?)\n+```sql\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
OF_ALIGNMENTS = [name for name in QUESTIONS if "align" in name or "arm" in name]
VIEWS = re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search in which something of everything went wrong."""
    folder = tmp_path_factory.mktemp("runs")
    path = drpo.optimize_blocking("search.levels=4", runs=folder).path
    copy = Path(shutil.copy(path, tmp_path_factory.mktemp("copy") / path.name))
    with closing(sqlite3.connect(copy)) as db, db:
        db.execute("update attempt set problem = 'busy' where rowid = 1")
        db.execute("update verdict set reward = null, unscored = 'not JSON' where rowid = 1")
        db.execute(
            "update verdict set scores = json_set(scores, '$[0].value', null,"
            " '$[0].unscored', 'N/A') where rowid = 2"
        )
        db.execute(
            "insert or ignore into decision select 'admit', 1, parent, item, 'refused', 'too long'"
            " from rewrite limit 1"
        )
    return copy


@pytest.fixture(scope="module")
def alignment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = (
        "data.limit=40",
        "search=greedy",
        "search.levels=2",
        "search.queries_per_level=2",
        "examples.limit=1",
        "examples.rounds=1",
    )
    return drpo.align_blocking(*words, runs=tmp_path_factory.mktemp("runs")).path


def asked(path: Path, sql: str) -> Iterator[tuple[object, ...]]:
    """As whoever looks on asks: the file is only read."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        yield from db.execute(sql)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered(question: str, run: Path, alignment: Path) -> None:
    """With rows, of the run that it is about; and without an error of the other."""
    about, other = (alignment, run) if question in OF_ALIGNMENTS else (run, alignment)
    assert [*asked(about, QUESTIONS[question])]
    list(asked(other, QUESTIONS[question]))


def test_there_are_questions_enough() -> None:
    """Every one of them was found on the page."""
    assert len(QUESTIONS) == PAGE.count("```sql") >= 15
    assert len(OF_ALIGNMENTS) == 3


@pytest.mark.parametrize(("view", "columns"), VIEWS, ids=[view for view, _ in VIEWS])
def test_a_view_has_the_columns_that_the_page_names(view: str, columns: str, run: Path) -> None:
    """All of them, in order, and there is no view that the page leaves out."""
    found = [str(row[1]) for row in asked(run, f"pragma table_info({view})")]
    assert found
    if view != "paid":
        assert re.findall(r"`(\w+)`", columns) == found
    views = {
        str(name) for (name,) in asked(run, "select name from sqlite_schema where type='view'")
    }
    assert views == {name for name, _ in VIEWS}


def test_tables_of_the_page_are_those_of_a_run(alignment: Path) -> None:
    """But for the two of LangGraph and what keeps count of migrations."""
    [listed] = re.findall(r"Below the views are the tables:\n(.*?)\n\n", PAGE, re.DOTALL)
    there = {
        str(name)
        for (name,) in asked(alignment, "select name from sqlite_schema where type='table'")
        if name not in ("checkpoints", "writes", "_sqlite_migrations")
    }
    assert {*re.findall(r"`(\w+)`", listed)} == there
