"""`drpo serve`: an OpenAI-compatible server in front of an aligned model.

On the loopback unless a token guards it; answers and changes nothing. What is asked is written
nowhere. Does not know how the model answers (`drpo.aligned`) or what the protocol's words mean
(`drpo.protocol`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from langchain_core.messages import AIMessage

from drpo.aligned import AlignedModel
from drpo.graph.errors import BadInput, DrpoError
from drpo.models.keys import is_local
from drpo.protocol import Asked, Refused, Reply, read, refused

TOKEN_ENV = "DRPO_SERVE_TOKEN"  # noqa: S105 - the name of a variable
SHORTEST_TOKEN = 16
"""Characters; a shorter one can be guessed."""
GRACE_S = 2.0
"""How long answers in flight may take once the server is told to stop."""
READING_S = 30.0
"""How long a client may take to send its request."""
REPLY = web.RequestKey("reply", Reply)
STREAM = web.RequestKey("stream", web.StreamResponse)
"""Once its headers are sent."""
NOT_KEPT = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Say = Callable[[str], None]


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


class Served:
    """The handlers of one aligned model."""

    def __init__(
        self,
        model: AlignedModel,
        *,
        token: str | None = None,
        local: bool = True,
        caps: Caps | None = None,
        say: Say | None = None,
    ) -> None:
        """`local` is for the loopback; `say` hears one line of each request, without its texts."""
        self.name = f"drpo-{model.artifact.content_sha256[:12]}"
        self._model = model
        self._token = None if token is None else _digest(token)
        self._local = local
        self._caps = caps or Caps()
        self._rate = Rate(self._caps.per_minute)
        self._in_flight = 0
        self._say = say

    def application(self) -> web.Application:
        """All routes."""
        app = web.Application(client_max_size=self._caps.body_bytes, middlewares=[self._guarded()])
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/models/{name}", self.model)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    async def health(self, _: web.Request) -> web.Response:
        """That it is there; needs no token and asks nobody."""
        return web.json_response({"status": "ok"})

    async def models(self, _: web.Request) -> web.Response:
        """The one that there is."""
        return web.json_response({"object": "list", "data": [self._listed()]})

    async def model(self, request: web.Request) -> web.Response:
        """The same by its name."""
        if request.match_info["name"] != self.name:
            raise Refused(404, "model_not_found", f"the one model here is {self.name!r}")
        return web.json_response(self._listed())

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """An answer, whole or bit by bit."""
        if request.content_type != "application/json":
            # A page of any site may send anything else to this machine without asking.
            wanted = "send JSON, with the header Content-Type: application/json"
            raise Refused(415, "invalid_request", wanted)
        with self._place():
            asked = await _asked(request)
            reply = Reply(uuid.uuid4().hex, int(time.time()), self.name)
            request[REPLY] = reply
            if asked.stream:
                return await self._stream(request, asked, reply)
            said: AIMessage = await self._model.ainvoke(asked.turns(), **asked.options())
            return web.json_response(reply.whole(said))

    async def _stream(self, request: web.Request, asked: Asked, reply: Reply) -> web.StreamResponse:
        options = asked.options()
        if asked.with_usage:
            options["stream_usage"] = True
        source: Any = self._model.astream(asked.turns(), **options)
        async with aclosing(source) as bits:
            # The first bit comes before the headers: until then an error has a status of its own.
            first: AIMessage | None = await anext(bits, None)
            response = web.StreamResponse(
                headers={**NOT_KEPT, "Content-Type": "text/event-stream; charset=utf-8"}
            )
            await response.prepare(request)
            request[STREAM] = response
            await _send(response, reply.begun())
            if first is not None:
                await _send(response, reply.bit(first))
            async for bit in bits:
                await _send(response, reply.bit(bit))
        await _send(response, reply.ended())
        if asked.with_usage:
            await _send(response, reply.counted())
        await response.write(b"data: [DONE]\n\n")
        return response

    def _listed(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": 0, "owned_by": "drpo"}

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for requests in flight. Raises Refused where there is none."""
        wait_s = self._rate.wait_s()
        if wait_s:
            raise Refused(429, "too_many_requests", "too many requests", wait_s=wait_s)
        if self._in_flight >= self._caps.in_flight:
            raise Refused(429, "too_many_requests", "too many requests at once", wait_s=1)
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def _guarded(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            since = time.monotonic()
            try:
                self._admit(request)
                response = await handler(request)
            except Refused as problem:
                response = await _told(request, problem)
            except DrpoError as problem:
                response = await _told(request, refused(problem))
            except web.HTTPException as problem:
                known = Refused(problem.status, "invalid_request", problem.reason)
                response = await _told(request, known)
            except ConnectionError:
                # The client went away in the middle of its answer.
                raise
            except Exception as error:  # noqa: BLE001 - aiohttp would write it down, texts and all
                said = f"this is a fault of drpo: {type(error).__name__}"
                response = await _told(request, Refused(500, "internal_error", said))
            if not response.prepared:
                response.headers.update(NOT_KEPT)
            self._tell(request, response.status, time.monotonic() - since)
            return response

        return guard

    def _admit(self, request: web.Request) -> None:
        """Raises Refused for who must not come in."""
        if self._local and not all(map(_is_loopback, request.headers.getall("Host", [""]))):
            # A name that somebody lets point to this machine, for their page to get in.
            raise Refused(403, "wrong_host", "this server answers to localhost alone")
        if self._token is None or request.path == "/health":
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(_digest(given.strip()), self._token)
        if scheme.lower() != "bearer" or not known:
            raise Refused(401, "invalid_api_key", "a token is needed: Authorization: Bearer ...")

    def _tell(self, request: web.Request, status: int, took_s: float) -> None:
        if self._say is None:
            return
        resource = request.match_info.route.resource
        place = "(elsewhere)" if resource is None else resource.canonical
        reply = request.get(REPLY)
        usage = None if reply is None else reply.usage
        tokens = f" {usage['prompt_tokens']}+{usage['completion_tokens']} tokens" if usage else ""
        self._say(f"{request.method} {place} {status} {took_s:.2f} s{tokens}")


async def _asked(request: web.Request) -> Asked:
    try:
        async with asyncio.timeout(READING_S):
            body = await request.read()
    except TimeoutError:
        raise Refused(408, "too_late", f"no whole request within {READING_S:g} s") from None
    return read(body)


async def _send(response: web.StreamResponse, event: dict[str, Any] | None) -> None:
    if event is not None:
        await response.write(f"data: {json.dumps(event)}\n\n".encode())


async def _told(request: web.Request, problem: Refused) -> web.StreamResponse:
    """An error in place of the answer, or as the last of its bits."""
    begun: web.StreamResponse | None = request.get(STREAM)
    if begun is not None:
        with suppress(ConnectionError):
            # It may be that the client went away.
            await _send(begun, problem.body())
        return begun
    return web.json_response(problem.body(), status=problem.status, headers=problem.headers)


def _digest(token: str) -> bytes:
    """Of one length, whatever is compared."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _is_loopback(host: str) -> bool:
    """Of a header, with a port or without; or an address to listen on."""
    return is_local(f"//{host}")


def is_local_address(host: str) -> bool:
    """Whether who listens there is heard on this machine alone."""
    return _is_loopback(f"[{host}]" if ":" in host else host)


def token_for(host: str, variable: str | None) -> str | None:
    """Which clients have to send; None for a server on the loopback that nobody asked one for.

    Raises BadInput where one is needed and there is none to use.
    """
    name = variable or TOKEN_ENV
    token = os.environ.get(name, "").strip()
    if not token:
        if variable is None and is_local_address(host):
            return None
        raise BadInput(
            f"to listen on {host!r}, drpo serve needs a token that clients send as their key: "
            f"set the environment variable {name} (at least {SHORTEST_TOKEN} characters)"
        )
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise BadInput(
            f"the token in {name} needs at least {SHORTEST_TOKEN} characters, all of them ASCII"
        )
    return token


@asynccontextmanager
async def listening(served: Served, host: str, port: int) -> AsyncIterator[str]:
    """The base URL, for as long as it is served. Raises BadInput where it cannot be."""
    # With cancellation, an answer that nobody waits for any more is not paid for to its end.
    runner = web.AppRunner(
        served.application(),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=GRACE_S,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise BadInput(f"cannot listen on {host}:{port}: {said}") from None
        address, found = runner.addresses[0][:2]
        yield f"http://{f'[{address}]' if ':' in address else address}:{found}/v1"
    finally:
        await runner.cleanup()


def serve(
    model: AlignedModel,
    *,
    host: str,
    port: int,
    token: str | None,
    caps: Caps,
    heard: Callable[[str], None],
    say: Say | None = None,
) -> None:
    """Until Ctrl-C or SIGTERM; `heard` gets the base URL. Raises BadInput."""
    local = is_local_address(host)
    served = Served(model, token=token, local=local, caps=caps, say=say)

    async def run() -> None:
        stop = asyncio.Event()
        async with listening(served, host, port) as url:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            heard(url)
            await stop.wait()

    try:
        asyncio.run(run())
    finally:
        model.close()
