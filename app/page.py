"""Text and tables on a terminal, wrapped to its width, in which nothing is markup.

Texts of models come with control characters; none of them has an effect.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from drpo.wording import plain

MARGIN = 2


class Page:
    """Prints one paragraph, or one table, after the other."""

    def __init__(self) -> None:
        self._console = console()

    def __call__(self, text: str = "", *, indent: int = 0, mark: str = "") -> None:
        """A paragraph behind a margin, its first line behind a mark."""
        width = max(1, self._console.width - indent - len(mark))
        margin = " " * indent + mark
        for line in Text(plain(text)).wrap(self._console, width):
            self._console.print(Text(f"{margin}{line.plain.rstrip()}"), soft_wrap=True)
            margin = " " * len(margin)

    def table(
        self, titles: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1
    ) -> None:
        """The first `texts` columns to the left, wrapped where they must be; then figures."""
        drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for at, title in enumerate(titles):
            is_text = at < texts
            drawn.add_column(
                title,
                justify="left" if is_text else "right",
                no_wrap=not is_text,
                overflow="fold" if is_text else "ellipsis",
            )
        for row in rows:
            drawn.add_row(*(Text(plain(cell)) for cell in row))
        self._console.print(Padding(drawn, (0, 0, 0, MARGIN), expand=False))


class Lines:
    """Prints lines of text in which nothing is markup, as long as they are.

    Not by rich: a trace of 5,000 candidates has 200,000 lines, which took it ten seconds.
    """

    def __call__(self, text: str = "") -> None:
        """One line, or several."""
        sys.stdout.write(f"{plain(text).expandtabs()}\n")


def console() -> Console:
    """On which nothing is markup."""
    return Console(highlight=False, markup=False, emoji=False)
