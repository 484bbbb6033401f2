"""What every server of ours does before it answers: who may come in, how often, from where.

On the loopback unless a token guards it. Knows neither what is served nor in which words a client
is turned away.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass

from aiohttp import web

from drpo.graph.errors import BadInput
from drpo.models.keys import is_local

SHORTEST_TOKEN = 16
"""Characters; a shorter one can be guessed."""
GRACE_S = 2.0
"""How long answers in flight may take once the server is told to stop."""
NO_HOST = frozenset("@/\\?#")
"""In an address they end, or come before, the name of a host; in a header nobody means well."""
NOT_KEPT = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TurnedAway(Exception):
    """A request that must not come in, with the status and the code that say why."""

    def __init__(
        self, status: int, code: str, message: str, *, wait_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.wait_s = wait_s
        """After which another try makes sense; None where it makes none."""


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How much is taken in at once."""

    body_bytes: int = 8 * 1024 * 1024
    in_flight: int = 64
    """Requests that are being answered."""
    per_minute: int = 600
    """Requests; as many may come at once."""


class Rate:
    """Lets so many through in a minute, and the rest of them later."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_minute / 60
        self._most = self._left = float(per_minute)
        self._clock = clock
        self._at = clock()

    def wait_s(self) -> float:
        """0 for one that may go on; else when the next one may."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._per_s
        self._left -= 1
        return 0.0


class Gate:
    """Lets requests in, one by one."""

    def __init__(
        self, *, token: str | None, local: bool, caps: Caps, open_paths: Collection[str] = ()
    ) -> None:
        """`local` is for the loopback; `open_paths` need no token."""
        self._token = None if token is None else _digest(token)
        self._local = local
        self._open = frozenset(open_paths)
        self._rate = Rate(caps.per_minute)
        self._most = caps.in_flight
        self._in_flight = 0

    def admit(self, request: web.Request) -> None:
        """Raises TurnedAway for who must not come in."""
        if self._local and not all(map(_is_loopback, request.headers.getall("Host", [""]))):
            # A name that somebody lets point to this machine, for their page to get in.
            raise TurnedAway(403, "wrong_host", "this server answers to localhost alone")
        if self._token is None or request.path in self._open:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(_digest(given.strip()), self._token)
        if scheme.lower() != "bearer" or not known:
            raise TurnedAway(401, "invalid_api_key", "a token is needed: Authorization: Bearer ...")

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for requests in flight. Raises TurnedAway where there is none."""
        wait_s = self._rate.wait_s()
        if wait_s:
            raise TurnedAway(429, "too_many_requests", "too many requests", wait_s=wait_s)
        if self._in_flight >= self._most:
            raise TurnedAway(429, "too_many_requests", "too many requests at once", wait_s=1)
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1


def _digest(token: str) -> bytes:
    """Of one length, whatever is compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _is_loopback(host: str) -> bool:
    """Of a header, with a port or without; or an address to listen on."""
    return not NO_HOST.intersection(host) and is_local(f"//{host}")


def is_local_address(host: str) -> bool:
    """Whether who listens there is heard on this machine alone."""
    return _is_loopback(f"[{host}]" if ":" in host else host)


def token_for(host: str, variable: str | None, *, verb: str) -> str | None:
    """Which clients have to send; None for a server on the loopback that nobody asked one for.

    Raises BadInput where one is needed and there is none to use.
    """
    name = variable or f"DRPO_{verb.upper()}_TOKEN"
    token = os.environ.get(name, "").strip()
    if not token:
        if variable is None and is_local_address(host):
            return None
        raise BadInput(
            f"to listen on {host!r}, drpo {verb} needs a token that clients send as their key: "
            f"set the environment variable {name} (at least {SHORTEST_TOKEN} characters)"
        )
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise BadInput(
            f"the token in {name} needs at least {SHORTEST_TOKEN} characters, all of them ASCII"
        )
    return token


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """The server's URL, for as long as it is served. Raises BadInput where it cannot be."""
    # With cancellation, an answer that nobody waits for any more is not worked on to its end.
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=GRACE_S
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise BadInput(f"cannot listen on {host}:{port}: {said}") from None
        address, found = runner.addresses[0][:2]
        yield f"http://{f'[{address}]' if ':' in address else address}:{found}"
    finally:
        await runner.cleanup()


def until_stopped(server: AbstractAsyncContextManager[str], heard: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM; `heard` gets the URL. Raises BadInput."""

    async def run() -> None:
        stop = asyncio.Event()
        async with server as url:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            heard(url)
            await stop.wait()

    asyncio.run(run())
