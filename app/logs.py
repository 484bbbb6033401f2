"""What happens to a run, one line an event: into a file beside it, and where asked on the terminal.

By the standard library's logging: it is there, rotates files and is what whoever embeds drpo has
handlers for (logger `drpo`). No text of a model is in a line but short errors, escaped; nothing
relies on the file, and where it cannot be written, the run goes on without.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging import DEBUG, INFO, WARNING, LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any, cast

from drpo.checkpoints.runs import log_files
from drpo.conf.schema import EmbeddingServerSettings, HFEndpointSettings, OpenAISettings, Settings
from drpo.graph.errors import BadInput
from drpo.graph.values import ROLES
from drpo.models.keys import read_headers, secrets_of
from drpo.wording import SHORT_ID, shortened

LARGEST = 5 * 1024 * 1024
"""Bytes of the file, and of the older one that it then becomes."""
LONGEST = 300
"""Characters of one fact."""
LEVELS = {
    "call": DEBUG,
    "call_failed": WARNING,
    "call_given_up": WARNING,
    "budget_reached": WARNING,
    "taken_over": WARNING,
    "write_failed": WARNING,
    "failed": logging.ERROR,
}
"""Of events that are not INFO. The file has INFO and above; -v shows that, and -vv all."""
HIDDEN = "[key]"


class RunLog:
    """Of one session of one run."""

    def __init__(self, run_id: str, logger: logging.Logger, secrets: Sequence[str]) -> None:
        self._run = run_id[:SHORT_ID]
        self._logger = logger
        self._secrets = secrets

    def __call__(self, event: str, **facts: object) -> None:
        """One line; facts that are None are left out."""
        level = LEVELS.get(event, INFO)
        if self._logger.isEnabledFor(level):
            told = {name: self._fact(value) for name, value in facts.items() if value is not None}
            self._logger.log(level, event, extra={"run_id": self._run, "facts": told})

    def _fact(self, value: object) -> object:
        if isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return round(value, 6)
        text = str(value)
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return shortened(text, LONGEST)


@contextmanager
def run_log(run_id: str, path: Path, secrets: Sequence[str] = ()) -> Iterator[RunLog]:
    """Appends to the file beside the run's file; `secrets` are left out of every line."""
    # Of nobody else, so that it goes away with the session.
    logger = logging.Logger(f"drpo.{run_id}")  # noqa: LOG001 - see above
    logger.parent = logging.getLogger("drpo")
    logger.setLevel(DEBUG if logger.parent.isEnabledFor(DEBUG) else INFO)
    handler = _File(log_files(path)[0])
    handler.setFormatter(_JsonLines())
    handler.setLevel(INFO)
    logger.addHandler(handler)
    try:
        yield RunLog(run_id, logger, secrets)
    finally:
        handler.close()


@contextmanager
def heard(verbose: int, say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile `say` is told of what happens: from 1 on of events, from 2 on of every call."""
    if not verbose:
        yield
        return
    logger, handler = logging.getLogger("drpo"), _Said(say)
    handler.setLevel(DEBUG if verbose > 1 else INFO)
    before = logger.level
    logger.setLevel(handler.level)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def secrets_in(settings: Settings) -> tuple[str, ...]:
    """Keys, and headers out of the environment, that the run may send; what is not set is none."""
    served = [getattr(settings.models, role) for role in ROLES]
    served.append(settings.retrieval.embedder)
    found: list[str] = []
    for each in served:
        if isinstance(each, OpenAISettings | HFEndpointSettings | EmbeddingServerSettings):
            with suppress(BadInput):
                found += secrets_of(each)
    headers = settings.telemetry.headers
    with suppress(BadInput):
        sent = read_headers(headers, "telemetry")
        found += [value for name, value in sent.items() if value != headers[name]]
    return tuple(sorted({*found}, key=len, reverse=True))


class _JsonLines(logging.Formatter):
    """In ASCII: nothing in it acts on whoever shows it."""

    def format(self, record: LogRecord) -> str:
        facts = {"at": _at(record), "severity": record.levelname.lower(), "event": record.msg}
        return json.dumps(facts | {"run": _of(record, "run_id")} | _of(record, "facts"))


class _File(RotatingFileHandler):
    """Readable by its owner alone; a full disk costs the line and nothing else."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=LARGEST, backupCount=1, encoding="utf-8", delay=True)
        self._over = False

    def emit(self, record: LogRecord) -> None:
        """Nothing once it is closed: whoever comes late would open the file again, for ever."""
        if not self._over:
            super().emit(record)

    def close(self) -> None:
        """For good. What cannot be written any more is lost, and nothing else."""
        self._over = True
        with suppress(OSError):
            super().close()

    def _open(self) -> IO[Any]:  # type: ignore[override]  # any text file will do
        def private(name: str, flags: int) -> int:
            # A pipe that nobody reads is no reason to wait.
            return os.open(name, flags | getattr(os, "O_NONBLOCK", 0), 0o600)

        return open(self.baseFilename, "a", encoding="utf-8", opener=private)

    def handleError(self, record: LogRecord) -> None:  # noqa: N802 - logging's name
        """Nothing: the run is more important."""


class _Said(logging.Handler):
    """One line for a person."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: LogRecord) -> None:
        """As `12:03:04 3f2a1b2c level level=3 candidates=6`; what was said is not said again."""
        if record.msg == "said":
            return
        facts = " ".join(f"{name}={_worded(value)}" for name, value in _of(record, "facts").items())
        at = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        self._say(f"{at} {_of(record, 'run_id')} {record.msg} {facts}".rstrip())


def _worded(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _of(record: LogRecord, name: str) -> Any:
    return cast("Any", record.__dict__[name])


def _at(record: LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
