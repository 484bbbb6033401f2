"""What `drpo estimate` does: compose, estimate, print. Asks no model and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from drpo.config_file import own_words
from drpo.courses import SKIPPED, WITHOUT_CALLS
from drpo.estimates import estimate_of
from drpo.graph.values import ROLES
from drpo.kinds import announced, plan_of
from drpo.settings import compose_settings
from drpo.terminal.progress import duration
from drpo.terminal.runs import print_estimate, print_json
from drpo.wording import dollars

ASSUMED = (
    f"Expected: {SKIPPED:.0%} of the survivors need no rewrite, {WITHOUT_CALLS:.0%} of the "
    "rewrites come to nothing, replies have usual lengths. Only the most calls are a limit."
)


def tell(
    overrides: Sequence[str], *, own: Path | None, as_json: bool, aligns: bool = False
) -> None:
    """The estimate of one run, `own` being the user's file. Raises BadInput."""
    settings = compose_settings([*own_words(own), *overrides])
    plan = plan_of(settings, aligns=aligns)
    told = asdict(estimate_of(settings, plan))
    if as_json:
        print_json(told)
        return
    print_estimate(told, {role: getattr(settings.models, role).model for role in ROLES})
    if plan.kind == "align":
        typer.echo(f"{announced(settings, plan)}.")
    typer.echo(ASSUMED)
    typer.echo(_dollars_and_time(told))
    if told["prices_at"]:
        typer.echo(f"Listed prices are of {told['prices_at']}; check them at the provider.")


def _dollars_and_time(told: Mapping[str, Any]) -> str:
    cost = told["total"]["cost_usd"]
    time = f"Time: {_range(told['seconds'], duration)}."
    return time if cost is None else f"Dollars: {_range(cost, dollars)}. {time}"


def _range(span: Mapping[str, float], shown: Callable[[float], str]) -> str:
    low, expected, high = (shown(span[name]) for name in ("low", "expected", "high"))
    return expected if low == high else f"about {expected} ({low} to {high})"
