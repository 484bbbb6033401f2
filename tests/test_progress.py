"""Progress off a terminal: a line a level, and never silence for long."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from drpo import quiet
from drpo.models.ledger import Usage
from drpo.run import Snapshot
from drpo.terminal import progress as shown

AT_LEVEL_1 = Snapshot(
    run_id="0123456789",
    stage="level",
    done=1,
    of=3,
    beam=((0, None),),
    usage=Usage(),
    seconds=2.0,
    seconds_left=None,
)


def test_a_wide_beam_is_told_by_its_first_candidates() -> None:
    """The best ones, and how many more there are."""
    beam = tuple((candidate, 3.0) for candidate in range(7))
    said = shown.line(replace(AT_LEVEL_1, beam=beam))
    assert "beam #0 3.00  #1 3.00  #2 3.00  #3 3.00  and 3 more |" in said


def speakers() -> list[str]:
    """The threads that would go on speaking."""
    return [each.name for each in threading.enumerate() if each.name.startswith("drpo-")]


def test_it_speaks_again_when_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Level by level, and meanwhile."""
    monkeypatch.setattr(quiet, "QUIET_S", 0.01)
    with shown.progress() as (observer, _):
        observer(AT_LEVEL_1)
        said = ""
        while said.count("level 1/3") < 3:
            said += capsys.readouterr().err
    assert not speakers()


def test_a_command_that_takes_its_time_says_that_it_is_starting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until it is ready to speak for itself."""
    monkeypatch.setattr(quiet, "QUIET_S", 0.01)
    with quiet.starting():
        said = ""
        while "starting" not in said:
            said += capsys.readouterr().err
        quiet.ready()
        # One line may be on its way.
        capsys.readouterr()
    with quiet.starting():
        quiet.ready()
    assert not speakers()


def test_a_command_that_is_quick_says_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody needs to read that."""
    with quiet.starting():
        pass
    assert not capsys.readouterr().err
