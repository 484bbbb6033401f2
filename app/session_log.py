"""What a session of a run tells its log: how it began, each level, signals, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drpo.checkpoints.store import RunStore
from drpo.graph.errors import BudgetReached
from drpo.logs import RunLog
from drpo.models.ledger import Usage

MOST_UNSCORED = 20
"""Lines about the unscored verdicts of one level."""


def begun(log: RunLog, before: Mapping[str, Any], kind: str) -> None:
    """`before` is the run's row as the last session left it."""
    owner, calls = before["owner_pid"], before["calls"]
    if owner is None and before["reason"] is None and not calls:
        log("begun", kind=kind)
        return
    if before["status"] == "running":
        # Its process died, or was killed: it would have said how it ended.
        log("taken_over", pid=owner, host=before["owner_host"], heartbeat=before["heartbeat_at"])
    log("resumed", kind=kind, calls=calls, after=before["reason"])


def ended(
    log: RunLog,
    store: RunStore,
    status: str,
    reason: str,
    *,
    error: BaseException | None,
    usage: Usage,
    seconds: float,
) -> None:
    """`status` is the run's own: done, paused or failed."""
    for failure in store.saver.failures[:1]:
        log("write_failed", file=store.file.name, why=f"{type(failure).__name__}: {failure}")
    if isinstance(error, BudgetReached):
        log("budget_reached", why=error)
    log(status, why=reason or None, seconds=seconds, **_spent(usage))


class LevelLog:
    """Tells of each level of the prompt search once."""

    def __init__(self, log: RunLog, store: RunStore) -> None:
        self._log, self._store = log, store
        self._last: int | None = None

    async def tell(
        self, levels: int, limit: int, beam: list[tuple[int, float | None]], usage: Usage
    ) -> None:
        """`levels` are finished; what was before this session is not told again."""
        if self._last is not None and levels > self._last:
            level = levels - 1
            count, unscored = await self._store.level_counts(level)
            for candidate, query, why in unscored[:MOST_UNSCORED]:
                self._log("unscored", level=level, candidate=candidate, query=query, why=why)
            best = beam[0] if beam else (None, None)
            self._log(
                "level",
                level=level,
                of=limit,
                candidates=count,
                best=best[0],
                path_value=best[1],
                unscored=len(unscored) or None,
                **_spent(usage),
            )
        self._last = levels


def stage(log: RunLog, name: str, done: int, of: int) -> None:
    """Of an alignment; only its ends are worth a line."""
    if done in (0, of):
        log("stage", stage=name, done=done, of=of)


def _spent(usage: Usage) -> dict[str, object]:
    return {"calls": usage.calls, "tokens": usage.tokens, "cost_usd": usage.cost_usd}
