"""`drpo report`: a run as one HTML file that needs nothing else, now or in ten years.

Knows how documents are packed into it: what is big is gzipped, candidates in blocks, so that
opening one takes a part of the file apart and not all of it.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

from drpo.checkpoints.details import Details
from drpo.checkpoints.runs import reading
from drpo.explorer import documents
from drpo.explorer.page import page

BLOCK = 32
"""Candidates that are unpacked together: siblings, mostly, which share their texts.

With 8 the file of 5,024 candidates is 10.0 MB, with 32 it is 7.8 MB; opening one blocks for 12 ms.
"""


class _Packed:
    """Documents one after the other in one text, and where each is."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._end = 0

    def add(self, document: object) -> tuple[int, int]:
        # Without a time in it, the same run makes the same file.
        packed = gzip.compress(documents.encoded(document), mtime=0)
        part = base64.b64encode(packed).decode()
        begin, self._end = self._end, self._end + len(part)
        self._parts.append(part)
        return begin, self._end

    def text(self) -> str:
        return "".join(self._parts)


def report(path: Path) -> str:
    """The HTML of a run's report. Raises BadInput, RunFailed."""
    packed = _Packed()
    overview = documents.overview(path)
    run = overview["run"]
    numbers: Sequence[int] = overview["tree"]["id"]
    blocks = [(first, *packed.add(block)) for first, block in _blocks(path, numbers)]
    return page(
        {
            "served": False,
            "documents": {
                "runs": {"runs": [documents.run_row(path)], "unreadable": []},
                f"runs/{run}": overview,
            },
            "packed": {
                f"runs/{run}/{name}": packed.add(documents.more(path, name))
                for name in documents.MORE
            },
            "blocks": blocks,
        },
        packed.text(),
    )


def _blocks(path: Path, numbers: Sequence[int]) -> Iterator[tuple[int, documents.Document]]:
    with reading(path) as db:
        details = Details(db)
        for at in range(0, len(numbers), BLOCK):
            some = numbers[at : at + BLOCK]
            yield some[0], documents.with_changes(details.block(some))
