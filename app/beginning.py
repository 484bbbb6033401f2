"""What `drpo init` does: a folder gets settings and queries to edit. Overwrites nothing."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

import typer

from drpo.commands import drpo_command
from drpo.graph.errors import BadInput

STARTER = ("drpo.yaml", "queries.jsonl")


def begin(folder: Path) -> None:
    """Write the starter files and say what comes next.

    Raises BadInput where one of them is there already, or the folder cannot be written.
    """
    try:
        for name in STARTER:
            if (folder / name).exists():
                raise BadInput(f"{str(folder / name)!r} is there already; nothing was written")
        folder.mkdir(parents=True, exist_ok=True)
        for name in STARTER:
            text = (files("drpo") / "starter" / name).read_text("utf-8")
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise BadInput(f"cannot write into {str(folder)!r}: {error.strerror or error}") from None
    typer.echo(_next(folder))


def _next(folder: Path) -> str:
    settings, queries = (folder / name for name in STARTER)
    go = "" if folder == Path() else f"cd {shlex.quote(str(folder))}; "
    drpo = drpo_command()
    return f"""Wrote {settings} and {queries}.

Edit both: the model, what your assistant is for, and what it is asked. Then:

  {go}{drpo} estimate    what a search will take: calls, tokens, dollars, time; asks nobody
  {go}{drpo} optimize    the search itself

Without a key, on simulated models:  {go}{drpo} optimize models=sandbox"""
