"""What `drpo optimize` and `drpo resume` do: compose, ask, run, report.

Composition is Hydra's `hydra.main`, so that multirun, launchers and completion work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
import typer
from omegaconf import DictConfig

from drpo.checkpoints.reader import beam, status, summary, waits_for_review
from drpo.checkpoints.runs import StoredRun
from drpo.commands import resume_command
from drpo.conf.schema import Settings
from drpo.config_file import own_words
from drpo.estimates import estimate_of
from drpo.graph.errors import BadInput, DrpoError, RunOwned, RunPaused
from drpo.graph.values import ROLES
from drpo.kinds import announced, plan_of
from drpo.logs import heard
from drpo.quiet import ready
from drpo.run import SearchFunction, first_search, new_run, search
from drpo.settings import (
    CONFIG_MODULE,
    CONFIG_NAME,
    HYDRA_PROBLEMS,
    check_sweep,
    explained,
    opened,
    settings_from,
)
from drpo.terminal.progress import progress
from drpo.terminal.runs import forecast, print_json, print_review, print_summary


def run_hydra(
    overrides: Sequence[str],
    *,
    own: Path | None,
    runs: Path,
    as_json: bool,
    yes: bool,
    verbose: int = 0,
    aligns: bool = False,
) -> None:
    """One run per composed configuration, `own` being the user's file. Raises DrpoError."""
    problems: list[DrpoError] = []
    begun: list[DictConfig] = []
    process = os.getpid()

    def job(config: DictConfig) -> None:
        if problems:
            return
        begun.append(config)
        try:
            _one(
                settings_from(config),
                runs=runs,
                as_json=as_json,
                yes=yes,
                verbose=verbose,
                aligns=aligns,
            )
        except DrpoError as problem:
            # Hydra would announce it in a line of its own. In a launcher's worker process there is
            # no other way to tell.
            if os.getpid() != process:
                raise
            problems.append(problem)

    # Hydra's parser takes no overrides on both sides of an option.
    multirun = [word for word in overrides if word in ("-m", "--multirun")]
    words = [*own_words(own), *(word for word in overrides if word not in multirun)]
    said = [word for word in words if not word.startswith("-")]
    if multirun:
        check_sweep(said)
    # Hydra would print its own words, and exit with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    arguments, sys.argv = sys.argv, ["drpo", *multirun, *opened(words)]
    try:
        hydra.main(
            version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=CONFIG_NAME
        )(job)()
    except HYDRA_PROBLEMS as error:
        if begun:
            raise
        raise explained(error, said) from None
    finally:
        sys.argv = arguments
    if problems:
        raise problems[0]


def _one(
    settings: Settings, *, runs: Path, as_json: bool, yes: bool, verbose: int, aligns: bool
) -> None:
    plan = plan_of(settings, aligns=aligns)
    estimate = asdict(estimate_of(settings, plan))
    if plan.kind == "align":
        typer.echo(f"{announced(settings, plan)}.", err=True)
    if _paid(settings):
        _confirm(estimate, yes=yes)
    run = new_run(settings, plan, runs, estimate)
    run_to_end(run, runs=runs, as_json=as_json, begin=first_search, verbose=verbose)


def run_to_end(
    run: StoredRun,
    *,
    runs: Path,
    as_json: bool,
    begin: SearchFunction = search,
    verbose: int = 0,
) -> None:
    """Run or resume one search and print what came of it, or what to review. Raises DrpoError."""
    problem: DrpoError | None = None
    if status(run.path) != "done":
        try:
            with progress() as (observer, announce), heard(verbose, announce):
                asyncio.run(begin(run, observer, announce))
        except (BadInput, RunOwned):
            raise
        except DrpoError as error:
            problem = error
        except (asyncio.CancelledError, KeyboardInterrupt):
            problem = RunPaused("cancelled")
    if type(problem) is RunPaused:
        # By a signal; whoever sends another one has been heard, and is owed the last lines.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    told = summary(run.path)
    review = beam(run.path) if waits_for_review(run.path) else None
    if as_json:
        print_json(told if review is None else told | {"review": review})
    elif review is None:
        print_summary(told, runs)
    else:
        print_review(told, review, runs)
    if problem is not None:
        raise type(problem)(f"{problem}; go on with: {resume_command(run.id, runs)}")


def _paid(settings: Settings) -> bool:
    return any(getattr(settings.models, role).provider != "sandbox" for role in ROLES)


def _confirm(estimate: Mapping[str, Any], *, yes: bool) -> None:
    typer.echo(f"This search makes {forecast(estimate)}.", err=True)
    if yes or not sys.stdin.isatty():
        return
    ready()
    if not typer.confirm("Start it?", default=False, err=True):
        raise BadInput("not started")
