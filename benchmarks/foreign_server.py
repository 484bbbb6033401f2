"""A server that nobody here wrote serves whole searches: `transformers serve`, or a running one.

`python -m benchmarks.foreign_server` makes a model of random weights and serves it; it needs
`pip install 'transformers[serving]'`. `--base-url URL --model NAME` asks a server that is there.
Random words are no JSON: where all roles are on the server, a search has to pause, and to say why.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "tiny_model.py"
PORT = 8711
ROLES = ("target", "rewarder", "judge", "rewriter")
SMALL = ("search=greedy", "search.levels=2", "data=sandbox", "data.limit=4")
QUICK = ("models.{}.max_tokens=24", "models.{}.timeout_s=60", "models.{}.attempts=2")
TRIED: Mapping[str, Mapping[str, Any]] = {
    "max_completion_tokens": {"max_completion_tokens": 4, "max_tokens": None},
    "n": {"n": 2},
    "seed": {"seed": 1, "temperature": 1.0},
    "stop": {"stop": None},
    "temperature 0": {"temperature": 0.0},
    "response_format": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
        }
    },
    "an unknown one": {"nobody_knows_this": 1},
}


async def said(base_url: str, body: Mapping[str, Any]) -> str | list[tuple[str, str, int]]:
    """Of each choice text, end and the tokens of all; or the error."""
    sent = {name: value for name, value in body.items() if value is not None}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{base_url}/chat/completions", json=sent) as reply,
    ):
        if reply.status != 200:  # noqa: PLR2004 - as HTTP has it
            return f"{reply.status}: {' '.join((await reply.text()).split())[:90]}"
        found = await reply.json()
    tokens = found["usage"]["completion_tokens"]
    return [
        (each["message"]["content"], each["finish_reason"], tokens) for each in found["choices"]
    ]


async def parameters(base_url: str, model: str) -> None:
    """What it makes of what drpo may send, one at a time."""
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
    usual = {"model": model, "messages": turns, "max_tokens": 24, "temperature": 0.0}
    plain = await said(base_url, usual)
    print(f"{'plain':24} {plain}")
    for name, change in TRIED.items():
        body = {**usual, **change}
        if name == "stop" and isinstance(plain, list):
            body["stop"] = [plain[0][0][4:7]]
        first, second = [await said(base_url, body) for _ in range(2)]
        same = "the same again" if first == second else "another answer again"
        print(
            f"{name:24} {first if isinstance(first, str) else f'{len(first)} x {first[0]}'}; {same}"
        )


def commanded(title: str, words: Sequence[str], folder: Path) -> None:
    """One command of drpo: its exit code and last words, and never a traceback."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "drpo", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    heard = [line for line in done.stderr.splitlines() if not re.match("starting|run |[0-9]", line)]
    print(f"\n{title}: exit code {done.returncode} after {time.monotonic() - started:.0f} s")
    print("\n".join(f"  {line}" for line in (*done.stdout.splitlines(), *heard) if line.strip()))


def searches(base_url: str, model: str, folder: Path) -> None:
    """The target on it as chat and as text, then all four roles, and what the doctor says."""
    there = [f"openai.base_url={base_url}", f"openai.model={model}"]
    target = ["models=sandbox", "provider@models.target=openai", *there, *SMALL]
    target += ["models.target.accept_truncated=true", *(each.format("target") for each in QUICK)]
    commanded("target on it", ["optimize", *target], folder)
    commanded("... as a base model", ["optimize", *target, "models.target.format=text"], folder)
    every = ["models=openai", *there, "models.target.accept_truncated=true"]
    every += [each.format(role) for role in ROLES for each in QUICK]
    commanded("all four roles on it", ["optimize", *every, *SMALL], folder)
    commanded("doctor", ["doctor", *every], folder)


@contextmanager
def served(command: str, folder: Path) -> Iterator[str]:
    """Its model's name; ready to be asked."""
    model = folder / "model"
    subprocess.run([sys.executable, str(TINY), str(model)], check=True)
    words = [command, "serve", str(model), "--port", str(PORT), "--device", "cpu"]
    log = (folder / "serve.log").open("w")
    with subprocess.Popen(
        words,
        stdout=log,
        stderr=log,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    ) as server:
        try:
            asyncio.run(_ready(server))
            yield str(model)
        finally:
            server.terminate()
            log.close()


async def _ready(server: subprocess.Popen[bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        while server.poll() is None:
            try:
                async with session.get(f"http://127.0.0.1:{PORT}/health"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.5)
    raise SystemExit("the server did not start: pip install 'transformers[serving]'")


def main() -> None:
    """All of it, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", help="of a server that is there, up to /v1")
    parser.add_argument("--model", default="model")
    parser.add_argument("--command", default="transformers", help="what to start otherwise")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        if given.base_url is not None:
            asyncio.run(parameters(given.base_url, given.model))
            searches(given.base_url, given.model, folder)
            return
        with served(given.command, folder) as model:
            base_url = f"http://127.0.0.1:{PORT}/v1"
            asyncio.run(parameters(base_url, model))
            searches(base_url, model, folder)


if __name__ == "__main__":
    main()
