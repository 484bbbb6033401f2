"""Text and tables on terminals of any width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from drpo.terminal.printing import Page

TITLES = ("aspect", "queries", "mean", "95 %", "low", "root", "path")
ROW = ("Critical-Thinking", "15", "3.65", "3.01-4.28", "35 %", "4.00 (1)", "4.00 (15)")

Printed = Callable[[int], list[str]]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """A row as so many columns show it."""

    def print_at(width: int, row: Sequence[str] = ROW) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        Page().table(TITLES, [row])
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return print_at


def test_where_there_is_room_cells_are_side_by_side(table: Printed) -> None:
    """Texts to the left, figures to the right."""
    assert table(80) == [
        "  aspect            queries mean      95 %  low     root      path",
        "  Critical-Thinking      15 3.65 3.01-4.28 35 % 4.00 (1) 4.00 (15)",
    ]


def test_where_there_is_none_each_row_is_a_block(table: Printed) -> None:
    """As many cells in a line as it takes, each with its title."""
    assert table(40) == [
        "  Critical-Thinking",
        "    queries: 15  mean: 3.65",
        "    95 %: 3.01-4.28  low: 35 %",
        "    root: 4.00 (1)  path: 4.00 (15)",
    ]


@pytest.mark.parametrize("width", range(16, 100))
def test_no_width_takes_anything_away(width: int, table: Printed) -> None:
    """Every cell is there, and no line is longer than it may be."""
    shown = table(width)
    words = "".join("".join(shown).split())
    assert all("".join(cell.split()) in words for cell in ROW)
    assert max(map(len, shown)) <= width


def test_a_mark_that_takes_half_the_width_has_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind it a word a line would be left."""
    monkeypatch.setenv("COLUMNS", "30")
    Page()("It cannot be reached at all.", indent=2, mark="BAD  the server  ")
    assert capsys.readouterr().out.splitlines() == [
        "  BAD  the server",
        "    It cannot be reached at",
        "    all.",
    ]
