"""`python -m drpo.models.sandbox --serve`: the simulated world as an OpenAI-compatible server."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import typer
from aiohttp import web

from drpo.conf.schema import SandboxSettings
from drpo.models.sandbox.server import application
from drpo.models.sandbox.world import world_file, world_sha256

DEFAULT_PORT = 8399


def main() -> int:
    """Serve until a signal comes; the exit code."""
    given = _arguments()
    settings = SandboxSettings(
        provider="sandbox",
        model="sandbox",
        world=given.world,
        profile=given.profile,
        seed=given.seed,
        latency_ms=given.latency_ms,
    )
    try:
        asyncio.run(_serve(settings, given.host, given.port))
    except OSError as error:
        typer.echo(f"cannot listen on {given.host}:{given.port}: {error.strerror}", err=True)
        return 2
    typer.echo("stopped")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m drpo.models.sandbox", description=__doc__)
    parser.add_argument("--serve", action="store_true", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 for any that is free")
    parser.add_argument("--world", default="noisy", choices=list(world_file().worlds))
    parser.add_argument("--profile", default="rambling", choices=list(world_file().target.profiles))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    return parser.parse_args()


async def _serve(settings: SandboxSettings, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(application(settings), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        [address] = runner.addresses[:1]
        typer.echo(
            f"http://{host}:{address[1]}/v1 serves world {settings.world}"
            f" ({world_sha256()[:12]}), profile {settings.profile}, seed {settings.seed};"
            ' as model "sandbox", any key'
        )
        await stop.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
