"""A damaged file is one line that names it, whatever looks at it, and blocks no other (S6, S7)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Here

import drpo
from drpo.checkpoints.doctor import examine
from drpo.checkpoints.runs import create_run
from drpo.checkpoints.schema import migrations


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped in the middle of its search."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking("search=greedy", "budget.calls=60", runs=folder)
    [path] = folder.glob("*.sqlite")
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """Its copy, in the folder where commands look."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return Path(shutil.copy(made, folder))


def changed(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("pragma foreign_keys = off")
        db.execute(sql)


DAMAGES = [
    "update run set created_at = cast(x'ff' as text)",
    "update run set settings = '{'",
    "update run set settings = '{}'",
    "update run set settings = '5'",
    "update run set fingerprint = '5'",
    "update query set messages = '[1]'",
    "update candidate set prompts = '[]'",
    "update candidate set parent = id",
    "update selection set reason = cast(x'ff' as text)",
    "update selection set aspects = '5'",
    "update rewrite set prompts = '{' where prompts is not null",
    "update verdict set scores = '{}'",
    "delete from text",
    "update text set body = cast(x'ff' as text)",
    "update checkpoints set checkpoint = x'c1ff00'",
    "update checkpoints set type = 'nix'",
    "update writes set value = x'c1ff00'",
    "update call set texts = '['",
    "update call set finish_reasons = '5'",
    "drop table call",
]
COMMANDS = (
    ("show",),
    ("show", "--view", "trace"),
    ("fork",),
    ("resume", "budget.calls=null"),
)


@pytest.mark.parametrize("sql", DAMAGES)
def test_s6_damage_is_found_and_told_in_one_line(sql: str, path: Path, here: Here) -> None:
    """By doctor; every other command does its work or says where to look."""
    changed(path, sql)
    assert not all(each.ok for each in examine(path)), sql
    for words in COMMANDS:
        done = here(words[0], path.stem, *words[1:])
        if done.returncode:
            last = done.stderr.splitlines()[-1]
            assert "drpo doctor" in last or path.name in last, words


def leaf(table: str, column: str, path: str, value: str) -> str:
    """One value in the JSON of a column becomes this text, JSON or not."""
    marked = f"json_set({column}, '{path}', '@@')"
    return f"update {table} set {column} = replace({marked}, '\"@@\"', '{value}')"


HALF = '"\\ud800"'
"""Half a character, as JSON writes it."""
WHOLE = "1" + "0" * 400
VALUES = [
    *(leaf("verdict", "scores", "$[0].value", to) for to in ("NaN", "1e999", WHOLE, '"x"', "[]")),
    *(leaf("verdict", "scores", "$[0].aspect", to) for to in ("null", HALF)),
    *(leaf("verdict", "scores", "$[0].rationale", to) for to in ("1e999", HALF)),
    *(leaf("verdict", "scores", "$[0]", to) for to in ("4", "{}")),
    *(f"update verdict set notes = '{to}'" for to in ("5", "[1]", f"[{HALF}]", "[NaN]")),
    *(f"update candidate set prompts = '{to}'" for to in ('{"system":[]}', f'{{"a":{HALF}}}')),
    *(f"update selection set aspects = '{to}'" for to in ("[1]", '[{"name":1e999}]')),
    *(f"update query set messages = '{to}'" for to in ('["user"]', f'[["user",{HALF}]]', "[]")),
    *(f"update query set tags = '{to}'" for to in ("NaN", "[[]]")),
    *(f"update call set parameters = '{to}'" for to in ("[]", '{"a":NaN}', f'{{"a":{HALF}}}')),
    *(f"update call set finish_reasons = '{to}'" for to in (f"[{HALF}]", "{}")),
    "update call set thinking = '[null]'",
    *(leaf("run", "settings", place, "NaN") for place in ("$.seed", "$.search.levels")),
    leaf("run", "settings", "$.models.judge.model", HALF),
    leaf("run", "fingerprint", "$.templates", "5"),
    *(f"update verdict set reward = {to}" for to in ("'nix'", "9e999")),
    *(f"update candidate set path_sum = {to}" for to in ("'nix'", "-9e999")),
    *(f"update candidate set {name} = 1.5 where id = 1" for name in ("level", "beam_rank", "item")),
    *(f"update run set seconds = {to}" for to in ("'nix'", "9e999")),
    *(f"update call set prompt_tokens = {to}" for to in ("'nix'", "x'ff'", "-1")),
    *(f"update decision set reason = {to}" for to in ("x'ff'", "cast(x'eda080' as text)")),
    "update call set finished_at = 'soon'",
    "update candidate set parent = 999 where id = 1",
    "update verdict set query = 999 where candidate = 0",
    "update sample set text = 'nix' where candidate = 0",
    "delete from sample where candidate = 0",
    "delete from selection",
    *(f"insert into finding values ('{name}', '5')" for name in ("select", "confirm", "truth")),
    'insert into finding values (\'select\', \'{"challenger":99,"with_examples":true,"arms":[]}\')',
    "insert into example values (0, 'nix', 'nix', null)",
]
VIEWS = (
    "show --json",
    "show --view tree",
    "show --view trace",
    "show --view trace --json",
    "show --view why",
    "show --view insights --json",
    "show --view diff --json",
    "report -o report.html --force",
    "export --format markdown",
    "export --format dpo",
    "export --format otel --texts",
)


def no_number(name: str) -> None:
    """JSON has none of these."""
    raise AssertionError(name)


@pytest.mark.parametrize("sql", VALUES)
def test_s6_a_damaged_value_is_no_traceback(sql: str, path: Path, here: Here) -> None:
    """Every view shows the rest, in sound JSON, or says in one line what is damaged, and where."""
    changed(path, sql)
    assert not all(each.ok for each in examine(path))
    refused = 0
    for view in VIEWS:
        verb, *words = view.split()
        done = here(verb, path.stem, *words)
        if done.returncode:
            refused += 1
            assert done.returncode == 2, view
            assert done.stderr.count("\n") == 1
            assert f"see `drpo doctor runs/{path.name}`" in done.stderr
        elif "--json" in words:
            json.loads(done.stdout, parse_constant=no_number)
    assert refused


def test_s6_a_run_that_cannot_be_read_hides_no_other(path: Path, here: Here) -> None:
    """`runs` lists the sound ones and names the others, whatever is wrong with them."""
    broken = [path.with_stem(name) for name in ("created", "settings", "nothing", "seed")]
    for each in broken:
        shutil.copy(path, each)
    changed(broken[0], "update run set created_at = cast(x'ff' as text)")
    changed(broken[1], "update run set settings = '{'")
    broken[2].write_bytes(b"")
    changed(broken[3], "update run set settings = json_remove(settings, '$.seed')")
    listed = here("runs", "--json")
    assert listed.returncode == 0
    assert [each["path"] for each in json.loads(listed.stdout)] == [str(Path("runs", path.name))]
    said = listed.stderr.splitlines()
    assert len(said) == len(broken)
    assert all(any(each.name in line for line in said) for each in broken)


def test_s6_an_older_run_is_not_taken_without_a_word(path: Path, here: Here) -> None:
    """Where a file that was written later cannot be read."""
    newer = Path(shutil.copy(path, path.with_stem("newer")))
    changed(newer, "update run set created_at = cast(x'ff' as text)")
    done = here("show")
    assert path.stem in done.stdout
    [line] = done.stderr.splitlines()
    assert newer.name in line
    assert path.stem[:8] in line
    os.utime(newer, (0, 0))
    assert not here("show").stderr
    named = here("show", "newer")
    assert named.returncode == 2
    assert newer.name in named.stderr


def test_p3_a_run_that_is_only_half_made_is_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is called otherwise until it is whole."""
    seen: list[Path] = []

    def killed(_: object) -> None:
        seen.extend(tmp_path.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(migrations, "apply", killed)
    with pytest.raises(KeyboardInterrupt):
        create_run(tmp_path, settings="{}", fingerprint={}, queries=[], version="test")
    assert seen
    assert not list(tmp_path.glob("*.sqlite"))


def test_c6_a_folder_that_cannot_be_written_is_named(path: Path, here: Here) -> None:
    """Looking goes on; resume and rm say what they cannot do."""
    changed(path, "update run set status = 'running', heartbeat_at = '2020-01-01T00:00:00+00:00'")
    # Root may write anywhere, but not into a folder as if it were a file.
    lock = path.with_suffix(".lock")
    lock.mkdir()
    for words in (("show",), ("runs",), ("doctor",)):
        done = here(*words)
        assert (done.returncode, done.stderr) == (0, ""), words
    resumed = here("resume", "budget.calls=null")
    assert resumed.returncode == 1
    assert lock.name in resumed.stderr
    assert resumed.stderr.count("\n") == 1
    assert here("replay").returncode == 2
    changed(path, "update run set heartbeat_at = strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')")
    assert json.loads(here("show", "--json").stdout)["status"] == "running"


def test_c6_a_run_that_cannot_be_deleted_is_named(
    path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line."""

    def refuse(_: Path, *, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    done = here("rm", path.stem, "--yes")
    monkeypatch.undo()
    assert done.returncode == 1
    assert done.stderr.startswith(f"drpo: cannot delete runs/{path.name}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "delete from text",
        "update text set body = body || '!'",
        "update call set texts = '['",
        "update call set messages = '[1]'",
    ],
)
def test_s7_a_damaged_answer_is_not_taken_over(sql: str, path: Path, tmp_path: Path) -> None:
    """It is asked for again."""
    changed(path, sql)
    words = ("search=greedy", "search.levels=1")
    made = drpo.optimize_blocking(*words, f"ledger.reuse={path}", runs=tmp_path / "new")
    assert all(count["new"] for count in made.summary["calls"].values() if sum(count.values()))


def test_s6_a_ledger_that_cannot_be_reused_is_named(path: Path, here: Here) -> None:
    """With how to go on without it."""
    changed(path, "drop table call")
    done = here("optimize", "search=greedy", "search.levels=1", f"ledger.reuse={path}")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert path.name in last
    assert "ledger.reuse=null" in last
    assert here("resume", "ledger.reuse=null").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fork", "models.target.provider=openai"), "new search"),
        (("fork", "~search.levels=3"), "only key=value"),
        (("fork", "search.levels@x=3"), "only key=value"),
        (("fork", "search.levels=3,4"), "only key=value"),
        (("fork", "search.levels=1"), "the fork begins at level"),
        (("resume", "~budget.calls=3"), "only key=value"),
        (("resume", "--edit", "0=a.md", "--edit", "0=b.md"), "one file a candidate"),
    ],
)
def test_c6_what_a_fork_or_a_resume_cannot_do_is_told(
    words: tuple[str, ...], said: str, path: Path, here: Here, tmp_path: Path
) -> None:
    """In one line, and nothing is made."""
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text("Help.")
    done = here(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(path.parent.iterdir()) == [path]
