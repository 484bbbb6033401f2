"""What to type next, as it can be pasted. Knows the environment that a command was started in."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from drpo.wording import SHORT_ID


def drpo_command() -> str:
    """How this command was probably started."""
    return "python3 -m uv run --no-dev drpo" if "UV_RUN_RECURSION_DEPTH" in os.environ else "drpo"


def resume_command(run_id: str, folder: Path) -> str:
    """To go on with a run."""
    return f"{drpo_command()} resume {run_id[:SHORT_ID]}{where(folder)}"


def send_command(run_id: str, folder: Path, address: str, *, texts: bool) -> str:
    """To send a run's spans to a collector."""
    how = f"--format otel --otlp {shlex.quote(address)}{' --texts' if texts else ''}"
    return f"{drpo_command()} export {run_id[:SHORT_ID]} {how}{where(folder)}"


def where(folder: Path) -> str:
    """Nothing for a folder that is found without being named."""
    found = Path(os.environ.get("DRPO_RUNS", "runs"))
    return "" if folder == found else f" --runs {shlex.quote(str(folder))}"
