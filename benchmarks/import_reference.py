"""Turns recorded runs of the paper's own code into finished runs that every verb can look at.

`python -m benchmarks.import_reference FILE... [--runs FOLDER]`

One line a file; exit code 0 when all are runs now, 1 when our search goes otherwise than a recorded
one, 2 for a file that cannot be read. What the rewarder said, and when, is not in such a file.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from benchmarks.replay_reference import compared, paper_settings, searched
from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.reader import tree
from drpo.checkpoints.rows import dumps, now, sha256
from drpo.checkpoints.runs import StoredRun, create_run, owning, remove_run
from drpo.checkpoints.store import open_store
from drpo.conf.schema import Settings
from drpo.graph.errors import BadInput, DrpoError, RunFailed
from drpo.graph.requests import Answer, Reply, Request
from drpo.graph.values import Role
from drpo.models.completions import record_of
from drpo.models.ledger import Attempt, Ledger
from drpo.models.provider import Completion, Provider
from drpo.models.providers import silent_providers
from drpo.models.recorded import RecordedCaller, RecordedRun
from drpo.parts import context_for
from drpo.run import current_fingerprint

T = TypeVar("T")
VERSION = "recorded"
"""In place of drpo's: another program made these answers."""


def import_run(file: Path, folder: Path) -> StoredRun:
    """A finished run in `folder` out of a `drpo-replay/1` file.

    Raises BadInput, which names it, for another file, and RunFailed where our search goes
    otherwise; no run is left then.
    """
    recorded = RecordedRun.read(file)
    settings = _settings(recorded, file)
    run = create_run(
        folder,
        settings=settings.model_dump_json(),
        fingerprint=current_fingerprint(settings),
        queries=recorded.queries,
        version=VERSION,
    )
    try:
        asyncio.run(_fill(run, settings, recorded))
    except BadInput as error:
        remove_run(run.path)
        raise RunFailed(f"the search goes elsewhere: {error}") from None
    except BaseException:
        remove_run(run.path)
        raise
    return run


def _settings(recorded: RecordedRun, file: Path) -> Settings:
    """The file names the target's model alone."""
    others: tuple[Role, ...] = ("rewarder", "judge", "rewriter")
    words = [f"models.{role}.model=not-recorded" for role in others]
    settings = paper_settings(recorded, "models=openai", *words)
    target = settings.models.target.model_copy(update={"model": recorded.model})
    models = settings.models.model_copy(update={"target": target})
    data = settings.data.model_copy(update={"path": str(file)})
    return settings.model_copy(update={"models": models, "data": data})


async def _fill(run: StoredRun, settings: Settings, recorded: RecordedRun) -> None:
    with owning(run.path, most_recoveries=0):
        async with open_store(run.path) as store, silent_providers(settings.models) as providers:
            caller = _WritingCaller(RecordedCaller(recorded), SqliteLedger(store), providers)
            context = context_for(settings, run.queries, caller, store)
            ours = await searched(run.id, context, store)
            found = compared(recorded, ours, tree(run.path))
            if found:
                raise BadInput(f"{found[0]} (and {len(found) - 1} more)")
            await store.finish()
            await store.set_status("done", None, 0.0)


class _WritingCaller:
    """A recorded run's replies, each written to the ledger as a call."""

    def __init__(
        self, recorded: RecordedCaller, ledger: Ledger, providers: Mapping[Role, Provider]
    ) -> None:
        self._recorded = recorded
        self._ledger = ledger
        self._providers = providers

    async def ask(self, request: Request[T]) -> Answer[T]:
        """The recorded answer. Raises BadInput as `RecordedCaller`."""
        answer = await self._recorded.ask(request)
        if request.role == "rewarder":
            return answer
        return Answer(answer.value, (await self._written(request, self._recorded.reply(request)),))

    async def _written(self, request: Request[T], reply: Reply) -> str:
        # By place, not by text: the same answer was judged twice, with different scores.
        key = sha256(dumps([request.role, request.level, request.candidate, request.query]))
        said = Completion(
            texts=reply.texts,
            finish_reasons=("stop",) * len(reply.texts),
            prompt_tokens=None,
            completion_tokens=None,
        )
        attempts = [Attempt(now(), 0.0, None)]
        provider = self._providers[request.role]
        record = record_of(key, request, provider, said, attempts)
        # What it did cost is not in the file.
        await self._ledger.record(replace(record, cost_usd=None))
        if any(request.flaw(reply.one(index)) for index in range(len(reply.texts))):
            await self._ledger.mark_invalid(key)
        return key


def main(arguments: Sequence[str]) -> int:
    """One line a file."""
    parser = argparse.ArgumentParser(description="Makes runs of drpo-replay/1 files.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="FOLDER")
    given = parser.parse_args(arguments)
    for file in given.files:
        try:
            run = import_run(file, given.runs)
        except BadInput as error:
            print(error, file=sys.stderr)
            return 2
        except DrpoError as error:
            print(f"{file}: {error}", file=sys.stderr)
            return 1
        print(f"{file}: {run.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
