"""Many runs at once in one folder: Hydra's multirun, one after another and side by side."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from conftest import Here
from test_cli import drpo as command

import drpo
from drpo.checkpoints import reader
from drpo.checkpoints.runs import is_owned, run_paths

SEARCH = ("search=greedy", "search.levels=2", "search.max_extension=0")
SEEDS = tuple(range(1, 9))


def rows(path: Path) -> int:
    """Calls in the ledger of a run that may be going."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as db:
        [(count,)] = db.execute("select count(*) from call")
    return int(count)


def seed_of(path: Path) -> int:
    return int(reader.summary(path, with_tree=False)["seed"])


def paid(result: drpo.Result) -> dict[str, int]:
    """Calls by role; how many the ledger answered depends on where the kill came."""
    return {role: count["new"] for role, count in result.summary["calls"].items()}


def killed_halfway(folder: Path) -> None:
    """Eight runs in eight processes, all of them killed -9 when each has paid for some calls.

    The rewriter takes so long that none can end before the last has begun.
    """
    words = ["optimize", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=8", *SEARCH]
    words += [f"seed={','.join(map(str, SEEDS))}", "--runs", str(folder)]
    words += ["models.rewriter.latency_ms=45000"]
    with subprocess.Popen(
        [sys.executable, "-m", "drpo", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while process.poll() is None:
            paths = run_paths(folder) if folder.exists() else []
            if len(paths) == len(SEEDS) and all(rows(path) >= 3 for path in paths):
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)


async def test_p1_eight_runs_at_once_each_killed_once_end_right(tmp_path: Path) -> None:
    """Each in the tree that its seed has without a kill."""
    killed_halfway(tmp_path / "broken")
    paths = run_paths(tmp_path / "broken")
    assert sorted(seed_of(path) for path in paths) == list(SEEDS)
    while any(is_owned(path) for path in paths):
        await asyncio.sleep(0.05)
    assert "done" not in {reader.status(path) for path in paths}
    resumed = await asyncio.gather(*(drpo.resume(p.stem, runs=p.parent) for p in paths))
    whole = [
        await drpo.optimize(*SEARCH, f"seed={seed_of(path)}", runs=tmp_path / "whole")
        for path in paths
    ]
    for one, other in zip(resumed, whole, strict=True):
        assert one.summary["tree_sha256"] == other.summary["tree_sha256"]
        assert paid(one) == paid(other)


def test_one_after_another_in_one_process(here: Here, tmp_path: Path) -> None:
    """Every seed has its run; one that stops is the last, and its code is the command's."""
    assert here("optimize", "-m", "experiment=smoke", "seed=1,2,3").returncode == 0
    assert sorted(seed_of(path) for path in run_paths(tmp_path / "runs")) == [1, 2, 3]
    stopped = here("optimize", "-m", "experiment=smoke", "seed=4,5", "budget.calls=3")
    assert stopped.returncode == 4
    assert len(run_paths(tmp_path / "runs")) == 4


def test_side_by_side_with_a_file_of_settings(tmp_path: Path) -> None:
    """The workers know the user's drpo.yaml."""
    (tmp_path / "drpo.yaml").write_text("experiment: smoke\ntask: {description: Bikes}\n")
    done = command("optimize", "-m", "hydra/launcher=joblib", "seed=1,2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    paths = run_paths(tmp_path / "runs")
    assert sorted(seed_of(path) for path in paths) == [1, 2]
    for path in paths:
        with closing(sqlite3.connect(path)) as db:
            [(task,)] = db.execute("select json_extract(settings, '$.task.description') from run")
        assert task == "Bikes"
