"""Never silent for long: says that a command is still starting, or where a search stands.

Imports next to nothing, because it speaks while everything else is being imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

QUIET_S = 1.5
"""Nothing is ever silent for longer than 2 s."""

_ready = threading.Event()


@contextmanager
def starting() -> Iterator[None]:
    """Says so on standard error while a command takes its time, until `ready` is called."""
    _ready.clear()
    thread = threading.Thread(target=_say_starting, name="drpo-starting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ready()
        thread.join()


def ready() -> None:
    """From here on others speak: a question, the progress, the result."""
    _ready.set()


def _say_starting() -> None:
    while not _ready.wait(QUIET_S):
        typer.echo("starting ...", err=True)


@contextmanager
def repeating(say: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Calls `say`, from a thread, whenever the function it gives was not called for QUIET_S."""
    spoken, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            if spoken.wait(QUIET_S):
                spoken.clear()
            else:
                say()

    thread = threading.Thread(target=watch, name="drpo-progress", daemon=True)
    thread.start()
    try:
        yield spoken.set
    finally:
        over.set()
        spoken.set()
        thread.join()
