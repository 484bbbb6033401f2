"""Prompts that a person wrote, out of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drpo.graph.errors import BadInput
from drpo.review import Changes
from drpo.texts import read_text

MOST_DIGITS = 18
"""Of a candidate's id."""


def read_changes(edits: Sequence[str], drops: Sequence[int], adds: Sequence[Path]) -> Changes:
    """Of `ID=FILE`, ids and files. Raises BadInput."""
    read = [_edit(each) for each in edits]
    edited = [candidate for candidate, _ in read]
    twice = [candidate for candidate in edited if edited.count(candidate) > 1]
    if twice:
        raise BadInput(f"--edit {twice[0]}=...: one file a candidate, not {len(twice)}")
    return Changes(
        edits=dict(read),
        drops=tuple(drops),
        adds=tuple(read_prompt(path) for path in adds),
    )


def _edit(said: str) -> tuple[int, str]:
    candidate, _, file = said.partition("=")
    if not candidate.isdecimal() or len(candidate) > MOST_DIGITS or not file:
        raise BadInput(f"--edit {said}: write ID=FILE, e.g. 12=mine.md")
    return int(candidate), read_prompt(Path(file))


def read_prompt(path: Path) -> str:
    """A person's prompt. Raises BadInput for a file that cannot be read or is empty."""
    text = read_text(path, str(path)).strip()
    if not text:
        raise BadInput(f"{path}: it is empty")
    return text
