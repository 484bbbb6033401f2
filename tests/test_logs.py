"""The log of a run: one line an event, in a file beside it and, where asked, on the terminal."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from openai_server import OpenAIServer
from test_cli import drpo as command

import drpo
from drpo import logs
from drpo.checkpoints.runs import log_files, run_paths
from drpo.logs import LONGEST, run_log

SMALL = ("search.levels=3", "search.queries_per_level=2")
HOSTILE = "\x1b[2J\x9b31m\u202e\nnext <b>line</b> =1+1"


def events(path: Path) -> list[dict[str, Any]]:
    """Of the run in this file."""
    return [json.loads(line) for line in log_files(path)[0].read_text("ascii").splitlines()]


def test_a_run_that_stops_and_goes_on_tells_what_happened(tmp_path: Path) -> None:
    """Each session how it began, its levels and how it ended, in one file of its owner's alone."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking(*SMALL, "budget.calls=3", runs=tmp_path)
    path = drpo.resume_blocking(None, "budget.calls=null", runs=tmp_path).path
    told = events(path)
    names = [each["event"] for each in told]
    assert names[:3] == ["begun", "budget_reached", "paused"]
    assert names[3:] == ["resumed", "level", "level", "level", "done"]
    assert "budget.calls=3" in told[1]["why"]
    assert told[3]["after"] == told[2]["why"]
    assert [each["level"] for each in told if each["event"] == "level"] == [0, 1, 2]
    assert {"candidates", "best", "path_value", "calls", "tokens", "cost_usd"} <= {*told[-2]}
    assert {each["run"] for each in told} == {path.stem[:8]}
    assert stat.S_IMODE(log_files(path)[0].stat().st_mode) == 0o600


async def test_it_tells_why_a_call_was_asked_again_or_given_up(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_backoff: None
) -> None:
    """Which role, which attempt, the reason and the wait; and that the run failed."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    server.fail_next(status=429, role="rewarder")
    server.fail_next(status=400, role="target", message="no such thing", times=9)
    with pytest.raises(drpo.DrpoError):
        await drpo.optimize(
            "models=openai", *SMALL, f"openai.base_url={server.base_url}", runs=tmp_path
        )
    [path] = run_paths(tmp_path)
    told = {each["event"]: each for each in events(path)}
    assert told["call_failed"]["role"] == "rewarder"
    assert told["call_failed"]["attempt"] == 1
    assert told["call_failed"]["busy"] is True
    assert told["call_failed"]["again_in_s"] >= 0
    assert "no such thing" in told["call_given_up"]["why"]
    assert told["paused"]["severity"] == "info"


def test_a_run_that_died_is_taken_over(tmp_path: Path) -> None:
    """Whose it was, and that it goes on."""
    from drpo.checkpoints.runs import before_session, load_run
    from drpo.session_log import begun

    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking(*SMALL, "budget.calls=9", runs=tmp_path)
    [path] = run_paths(tmp_path)
    before = before_session(path) | {"status": "running", "owner_pid": 7, "reason": None}
    with run_log(load_run(path).id, path) as log:
        begun(log, before, "search")
    assert [each["event"] for each in events(path)[-2:]] == ["taken_over", "resumed"]
    assert events(path)[-2]["pid"] == 7


def test_verbose_tells_events_and_very_verbose_every_call(here: Here) -> None:
    """On standard error, one line each; without it there is none of them."""
    quiet = here("optimize", *SMALL)
    once = here("optimize", *SMALL, "-v")
    twice = here("optimize", *SMALL, "-vv")
    assert [said.returncode for said in (quiet, once, twice)] == [0, 0, 0]
    assert " begun " not in quiet.stderr
    assert once.stderr.count(" level level=") == 3
    assert " call role=" not in once.stderr
    assert " call role=judge " in twice.stderr
    assert quiet.stdout.splitlines()[1:3] == once.stdout.splitlines()[1:3]
    assert not logging.getLogger("drpo").handlers


def test_what_the_run_says_is_said_once(here: Here) -> None:
    """Not by its event as well, which is for the file."""
    away = "telemetry.otlp=http://127.0.0.1:9"
    said = here("optimize", *SMALL, "-v", away)
    assert said.stderr.count("spans could not be sent") == 1
    [path] = run_paths(Path("runs"))
    [told] = [each["what"] for each in events(path) if each["event"] == "said"]
    assert "spans could not be sent" in told


async def test_i4_what_a_server_and_a_folder_are_called_acts_on_no_terminal(
    server: OpenAIServer, tmp_path: Path, here: Here
) -> None:
    """Neither with -vv nor without, nor in the file; each event stays one line."""
    key = {"OPENAI_API_KEY": "sk-s3cret-of-the-server"}
    hostile = f"{HOSTILE} sk-s3cret-of-the-server"
    server.refuse("n")
    server.fail_next(status=429, message=hostile, headers={"Retry-After": "0"}, times=2)
    server.fail_next(status=400, message=hostile, role="judge", times=99)
    server.say_next(hostile, role="rewriter", refusal=hostile)
    words = ("optimize", *SMALL, "models=openai", f"openai.base_url={server.base_url}", "--yes")
    verbose = ("-vv", "--runs", "a\x1b[31mb")
    said = await asyncio.to_thread(command, *words, *verbose, folder=tmp_path, environment=key)
    [path] = run_paths(tmp_path / "a\x1b[31mb")
    text = log_files(path)[0].read_text("ascii")
    assert {"call_failed", "call_given_up"} <= {each["event"] for each in events(path)}
    for shown in (said.stdout, said.stderr, text):
        assert not {"\x1b", "\x9b", "\u202e"} & {*shown}
        assert "s3cret" not in shown
    deleted = await asyncio.to_thread(here, "rm", path.stem, "--yes", "--runs", str(path.parent))
    assert deleted.returncode == 0
    assert "\x1b" not in deleted.stdout


async def test_calls_that_ask_the_same_are_told_apart(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_backoff: None
) -> None:
    """By the number of the sample, where a server gives one answer at a time."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    server.refuse("n")
    server.fail_next(status=429, role="rewriter", times=4)
    words = ("models=openai", f"openai.base_url={server.base_url}", *SMALL)
    path = (await drpo.optimize(*words, runs=tmp_path)).path
    failed = [each for each in events(path) if each["event"] == "call_failed"]
    assert sorted(each.get("sample", 0) for each in failed) == [0, 1, 2, 3]


def test_who_embeds_drpo_hears_of_it_by_logging(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The logger is `drpo`."""
    with caplog.at_level(logging.INFO, logger="drpo"):
        drpo.optimize_blocking("experiment=smoke", runs=tmp_path)
    assert {"begun", "level", "done"} <= {record.msg for record in caplog.records}


def test_rm_takes_the_log_away_and_nothing_takes_it_for_a_run(tmp_path: Path, here: Here) -> None:
    """Nor is a run without one any worse."""
    here("optimize", *SMALL)
    [path] = run_paths(tmp_path / "runs")
    assert {each.suffix for each in path.parent.iterdir()} == {".sqlite", ".log"}
    listed = here("runs")
    assert listed.stdout.count("done") == 1
    assert listed.stderr == ""
    assert here("doctor", path.stem[:8]).returncode == 0
    log_files(path)[1].write_text("older lines", "utf-8")
    assert here("rm", path.stem[:8], "--yes").returncode == 0
    assert not list(path.parent.iterdir())


def test_it_never_grows_beyond_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older one is let go."""
    monkeypatch.setattr(logs, "LARGEST", 2000)
    path = tmp_path / "a.sqlite"
    with run_log("a", path) as log:
        for at in range(200):
            log("level", level=at)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.log", "a.log.1"]
    assert all(each.stat().st_size <= 2000 for each in tmp_path.iterdir())
    assert all(stat.S_IMODE(each.stat().st_mode) == 0o600 for each in tmp_path.iterdir())
    assert events(path)[-1]["level"] == 199


def test_a_log_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    """The run is done as with it."""
    with run_log("a", tmp_path / "nowhere" / "a.sqlite") as log:
        log("begun")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_costs_the_lines_alone(tmp_path: Path) -> None:
    """Also where it is seen only when the file is closed."""
    path = tmp_path / "run.sqlite"
    log_files(path)[0].symlink_to("/dev/full")
    with run_log("run", path) as log:
        log("begun")


def test_who_comes_late_writes_nothing(tmp_path: Path) -> None:
    """The file stays closed."""
    path = tmp_path / "run.sqlite"
    with run_log("run", path) as log:
        log("begun")
    log("late")
    assert [each["event"] for each in events(path)] == ["begun"]


def test_i4_a_line_is_one_line_of_plain_text(tmp_path: Path) -> None:
    """Also what -v shows; what is long is cut."""
    said: list[str] = []
    with run_log("a", tmp_path / "a.sqlite") as log, logs.heard(1, said.append):
        log("unscored", why=HOSTILE, candidate=HOSTILE * 100)
    text = (tmp_path / "a.log").read_text("ascii")
    assert text.count("\n") == 1
    assert not {"\x1b", "\x9b", "\u202e", "\n"} & {*said[0]}
    assert len(json.loads(text)["candidate"]) <= LONGEST


def test_i7_no_key_is_in_a_line(tmp_path: Path) -> None:
    """Whatever the text that holds one."""
    with run_log("a", tmp_path / "a.sqlite", ("s3cret", "other")) as log:
        log("failed", why="Bearer s3cret, other s3cret")
    text = (tmp_path / "a.log").read_text("ascii")
    assert "s3cret" not in text
    assert "other" not in text
    assert "[key]" in text
