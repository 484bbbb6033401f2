"""`drpo doctor RUN`: damage is found, named and told apart (FAULTS S5-S8)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Here

import drpo
from drpo.checkpoints import doctor
from drpo.checkpoints.doctor import examine
from drpo.checkpoints.runs import create_run, load_run, owning, run_paths
from drpo.graph.errors import BadInput, RunFailed
from drpo.settings import compose_settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a finished run."""
    return drpo.optimize_blocking("experiment=smoke", runs=tmp_path).path


def wrong(path: Path) -> dict[str, str]:
    """What is said of everything that is not in order."""
    return {each.what: each.said for each in examine(path) if not each.ok}


def changed(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("pragma foreign_keys = off")
        db.execute(sql)


def test_a_sound_run_has_nothing_wrong(path: Path) -> None:
    """Every look was taken."""
    found = examine(path)
    assert [each.what for each in found] == [
        "file",
        "integrity",
        "references",
        "values",
        "texts",
        "checkpoints",
        "log",
        "file system",
    ]
    assert not wrong(path)


def test_a_run_that_never_began_has_nothing_wrong(tmp_path: Path) -> None:
    """No checkpoint, no candidate."""
    settings = compose_settings([]).model_dump_json()
    run = create_run(tmp_path, settings=settings, fingerprint={}, queries=[], version="test")
    assert not wrong(run.path)


def test_s6_a_truncated_file_is_named(path: Path) -> None:
    """Wherever it ends."""
    whole = path.read_bytes()
    for share in (0.0, 0.02, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert wrong(path), share


def test_s6_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    """Text, or another program's database."""
    other = tmp_path / "other.sqlite"
    other.write_text("hello" * 1000)
    assert "file" in wrong(other)
    with closing(sqlite3.connect(tmp_path / "third.sqlite")) as db:
        db.execute("create table run (id text)")
    assert "file" in wrong(tmp_path / "third.sqlite")


def test_s6_a_broken_page_is_found(path: Path) -> None:
    """In the middle of the file."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 4096] = b"\xff" * 4096
    path.write_bytes(whole)
    assert {"integrity", "texts", "references", "checkpoints"} & set(wrong(path))


def test_s7_a_flipped_byte_in_a_text_is_found(path: Path) -> None:
    """And named by its hash; SQLite itself sees nothing."""
    with closing(sqlite3.connect(path)) as db:
        [(name, body)] = db.execute("select sha256, body from text order by length(body) limit 1")
    other = chr(ord(body[0]) ^ 1) + body[1:]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update text set body = ? where sha256 = ?", (other, name))
    assert wrong(path) == {"texts": f"text {name[:12]} is not what was stored"}


def test_s7_a_missing_text_is_found(path: Path) -> None:
    """Whoever refers to it."""
    changed(path, "delete from text where sha256 in (select text from sample limit 1)")
    found = wrong(path)
    assert "is missing" in found["texts"]
    assert "sample" in found["references"]


@pytest.mark.parametrize(
    "sql",
    [
        "update candidate set prompts = '{\"system\"' where id = 1",
        "update call set messages = '[1]'",
        "update run set settings = '{'",
        "update verdict set scores = 'x' where candidate = 1",
    ],
)
def test_s6_a_broken_value_is_found_and_told_in_one_line(sql: str, path: Path, here: Here) -> None:
    """By doctor; the other commands say where to look."""
    changed(path, sql)
    assert {"values", "texts"} & set(wrong(path))
    for words in (["show", "--view", "trace"], ["resume"], ["fork"]):
        done = here(*words, path.stem, "--runs", str(path.parent))
        assert done.returncode in (0, 2), words
        assert len(done.stderr.splitlines()) <= 1


def test_a_checkpoint_that_cannot_be_decoded_is_found(path: Path) -> None:
    """As a hostile one, which builds nothing (FAULTS C4)."""
    changed(path, "update checkpoints set checkpoint = x'c1ff00'")
    assert "cannot be decoded" in wrong(path)["checkpoints"]


def test_s5_a_copy_without_its_log_says_what_is_missing(tmp_path: Path) -> None:
    """And a copy with it is whole."""
    run = drpo.optimize_blocking("experiment=smoke", runs=tmp_path / "runs").path
    with closing(sqlite3.connect(run)) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("update run set reason = 'in the log'")
        writer.commit()
        torn, both = tmp_path / "torn.sqlite", tmp_path / "both.sqlite"
        shutil.copy(run, torn)
        shutil.copy(run, both)
        shutil.copy(f"{run}-wal", f"{both}-wal")
        assert not wrong(run)
    assert wrong(torn) == {"log": wrong(torn)["log"]}
    assert "torn.sqlite-wal is missing" in wrong(torn)["log"]
    assert not wrong(both)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p"])
def test_s8_a_network_file_system_is_warned_of(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do."""
    monkeypatch.setattr(doctor, "file_system", lambda _: kind)
    assert "move the runs" in wrong(path)["file system"]


def test_the_file_system_here_has_a_name(path: Path) -> None:
    """Found by the mount it lies on."""
    assert doctor.file_system(path)


def test_the_command_says_it_in_lines_and_codes(here: Here, tmp_path: Path) -> None:
    """0 for a sound run, 1 for a damaged one, also by its path."""
    assert here("optimize", "experiment=smoke").returncode == 0
    [path] = run_paths(tmp_path / "runs")
    sound = here("doctor")
    assert sound.returncode == 0, sound.stderr
    assert "BAD" not in sound.stdout
    path.write_bytes(path.read_bytes()[:5000])
    damaged = here("doctor", str(path))
    assert damaged.returncode == 1
    assert "BAD" in damaged.stdout
    assert damaged.stderr.count("\n") == 1


def test_s6_every_value_of_a_run_that_has_to_be_read_is_looked_at(path: Path, here: Here) -> None:
    """Also the state that a fork begins with; reading it is no traceback."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update run set start = '{'")
    assert any("start" in each.said for each in examine(path) if not each.ok)
    with pytest.raises(BadInput, match="drpo doctor"):
        load_run(path)


def test_s5_a_killed_run_that_was_refused_is_sound(tmp_path: Path) -> None:
    """To look whether it may go on puts its log into the file; nothing is missing."""
    path = drpo.optimize_blocking("experiment=smoke", runs=tmp_path).path
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("pragma journal_mode = wal")
        db.execute("update run set status = 'running', owner_pid = 1")
    with pytest.raises(RunFailed, match="died"), owning(path, most_recoveries=0):
        pass
    assert all(each.ok for each in examine(path))


@pytest.mark.parametrize("kind", ["circle", "pipe"])
def test_s6_what_is_no_file_is_named(kind: str, here: Here, tmp_path: Path) -> None:
    """Nothing waits for a pipe, or goes round in a circle."""
    odd = tmp_path / "runs" / "odd.sqlite"
    odd.parent.mkdir()
    odd.symlink_to(odd) if kind == "circle" else os.mkfifo(odd)
    done = here("doctor", "odd")
    assert done.returncode == 1
    assert "there is no file 'runs/odd.sqlite'" in done.stderr
    assert done.stderr.count("\n") == 1
