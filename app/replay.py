"""What `drpo replay` does: a finished run once more out of its own ledger, asking nobody.

It ends in the same tree, or the program or the file is not what it was.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

import drpo
from drpo.checkpoints.forks import Beginning, fork_run
from drpo.checkpoints.reader import status, summary
from drpo.checkpoints.runs import load_run
from drpo.conf.schema import BudgetSettings, LedgerSettings, Settings, TelemetrySettings
from drpo.graph.errors import BadInput, RunFailed
from drpo.models.providers import silent_providers
from drpo.run import current_fingerprint, search
from drpo.settings import stored_settings


@dataclass(frozen=True, slots=True)
class Replayed:
    """A run, and what came of it the second time."""

    run_id: str
    recorded: str
    """`tree_sha256` of the run."""
    replayed: str | None
    """Of its replay; None where it asked what the ledger does not have."""
    reason: str | None = None

    @property
    def same(self) -> bool:
        """Whether the two trees are one."""
        return self.recorded == self.replayed


def replay(path: Path) -> Replayed:
    """Run a copy in a folder of its own. Raises BadInput for a run that is not done."""
    run = load_run(path)
    if run.kind != "search":
        raise BadInput(
            f"run {run.id} is more than a search for a prompt; only such a search can be replayed"
        )
    if status(path) != "done":
        raise BadInput(f"run {run.id} is not done; only a finished run can be replayed")
    settings = stored_settings(run.id, run.settings)
    if settings.search.review:
        raise BadInput(f"run {run.id} was reviewed; what a person decided cannot be replayed")
    settings = _alone(settings)
    recorded = summary(path)["tree_sha256"]
    with tempfile.TemporaryDirectory(prefix="drpo-replay-") as folder:
        copy = fork_run(
            run,
            None if run.start is None else Beginning(level=run.start["level"]),
            settings=settings.model_dump_json(),
            level_limit=(settings.search.levels, settings.search.max_extension),
            fingerprint=current_fingerprint(settings),
            version=drpo.__version__,
            folder=Path(folder),
        )
        try:
            asyncio.run(search(copy, providers=silent_providers))
        except RunFailed as error:
            return Replayed(run.id, recorded, None, str(error))
        return Replayed(run.id, recorded, summary(copy.path)["tree_sha256"])


def _alone(settings: Settings) -> Settings:
    """Without budget, because nothing is paid for, another run's ledger, and anybody to tell."""
    alone = {
        "budget": BudgetSettings(),
        "ledger": LedgerSettings(),
        "telemetry": TelemetrySettings(),
    }
    return settings.model_copy(update=alone)
