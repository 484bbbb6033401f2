"""Text and tables on a terminal, wrapped to its width, in which nothing is markup.

Texts of models come with control characters; none of them has an effect.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from drpo.wording import plain

MARGIN = 2
LEAST_OF_TEXT = 20
"""Characters that a column of text has for its longest word, or there is no room for the table."""
_BESIDE = "  "


class Page:
    """Prints one paragraph, or one table, after the other."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        # The console looks it up each time, which takes longer than to print a line.
        self._width = self._console.width

    def __call__(self, text: str = "", *, indent: int = 0, mark: str = "") -> None:
        """A paragraph behind a margin, its first line behind a mark.

        A mark that takes more than half the width has a line of its own.
        """
        half = self._width // 2
        if mark and indent + len(mark) > half:
            self(mark, indent=indent)
            indent, mark = indent + len(_BESIDE), ""
        start = " " * min(indent, half) + mark
        for line in self._wrapped(plain(text), max(1, self._width - len(start))):
            # Not by rich, which takes longer for it than to wrap the text.
            sys.stdout.write(f"{start}{line}".rstrip() + "\n")
            start = " " * len(start)

    def _wrapped(self, text: str, width: int) -> Iterable[str]:
        if text.isprintable() and cell_len(text) <= width:
            return (text,)
        return (line.plain for line in Text(text).wrap(self._console, width))

    def table(
        self,
        titles: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        texts: Collection[int] = (0,),
        margin: int = MARGIN,
        gap: int = 1,
    ) -> None:
        """Columns: `texts` to the left and wrapped where they must be, the others are figures.

        Where there is no room for them each row is a block, in which the cells have their titles.
        """
        cells = [[plain(cell) for cell in row] for row in rows]
        columns = list(zip(titles, *cells, strict=True))
        least = [_least(column, is_text=at in texts) for at, column in enumerate(columns)]
        if margin + sum(least) + gap * (len(titles) - 1) > self._width:
            self._blocks(titles, cells, margin)
            return
        drawn = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
        for at, title in enumerate(titles):
            is_text = at in texts
            drawn.add_column(
                title,
                justify="left" if is_text else "right",
                no_wrap=not is_text,
                overflow="fold" if is_text else "ellipsis",
            )
        for row in cells:
            drawn.add_row(*map(Text, row))
        self._console.print(Padding(drawn, (0, 0, 0, margin), expand=False))

    def _blocks(self, titles: Sequence[str], rows: Iterable[Sequence[str]], margin: int) -> None:
        deeper = margin + len(_BESIDE)
        for head, *others in rows:
            self(head, indent=margin)
            told = zip(titles[1:], others, strict=True)
            line = ""
            for cell in (f"{title}: {other}" for title, other in told if other):
                longer = f"{line}{_BESIDE}{cell}" if line else cell
                if line and cell_len(longer) > self._width - deeper:
                    self(line, indent=deeper)
                    longer = cell
                line = longer
            self(line, indent=deeper)


def _least(column: Iterable[str], *, is_text: bool) -> int:
    """Characters that it needs."""
    whole = (part for cell in column for part in (cell.split() if is_text else (cell,)))
    longest = max(map(cell_len, whole), default=0)
    return min(longest, LEAST_OF_TEXT) if is_text else longest


class Lines:
    """Prints lines of text in which nothing is markup, as long as they are.

    Not by rich: a trace of 5,000 candidates has 200,000 lines, which took it ten seconds.
    """

    def __call__(self, text: str = "") -> None:
        """One line, or several."""
        sys.stdout.write(f"{plain(text).expandtabs()}\n")
