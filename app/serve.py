"""`drpo serve`: an OpenAI-compatible server in front of an aligned model.

On the loopback unless a token guards it; answers and changes nothing. What is asked is written
nowhere. Does not know how the model answers (`drpo.aligned`) or what the protocol's words mean
(`drpo.protocol`).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from langchain_core.messages import AIMessage

from drpo import loopback
from drpo.aligned import AlignedModel
from drpo.graph.errors import DrpoError
from drpo.loopback import NOT_KEPT, Caps, Gate, Handler, TurnedAway, is_local_address, until_stopped
from drpo.protocol import Asked, Refused, Reply, read, refused

READING_S = 30.0
"""How long a client may take to send its request."""
REPLY = web.RequestKey("reply", Reply)
STREAM = web.RequestKey("stream", web.StreamResponse)
"""Once its headers are sent."""
CODE = web.RequestKey("code", str)
"""Of the error that a request ended with."""

Say = Callable[[str], None]


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
        self._caps = caps or Caps()
        self._gate = Gate(token=token, local=local, caps=self._caps, open_paths=("/health",))
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
        with self._gate.place():
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

    def _guarded(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            since = time.monotonic()
            try:
                self._gate.admit(request)
                response = await handler(request)
            except Refused as problem:
                response = await _told(request, problem)
            except TurnedAway as problem:
                known = Refused(problem.status, problem.code, str(problem), wait_s=problem.wait_s)
                response = await _told(request, known)
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

    def _tell(self, request: web.Request, status: int, took_s: float) -> None:
        if self._say is None:
            return
        resource = request.match_info.route.resource
        place = "(elsewhere)" if resource is None else resource.canonical
        reply = request.get(REPLY)
        usage = None if reply is None else reply.usage
        tokens = f" {usage['prompt_tokens']}+{usage['completion_tokens']} tokens" if usage else ""
        code = f" {request[CODE]}" if CODE in request else ""
        self._say(f"{request.method} {place} {status}{code} {took_s:.2f} s{tokens}")


async def _asked(request: web.Request) -> Asked:
    try:
        async with asyncio.timeout(READING_S):
            body = await request.read()
    except TimeoutError:
        raise Refused(408, "too_late", f"no whole request within {READING_S:g} s") from None
    # A long one takes so long to read that every other client would wait for it.
    return await asyncio.to_thread(read, body)


async def _send(response: web.StreamResponse, event: dict[str, Any] | None) -> None:
    if event is not None:
        await response.write(f"data: {json.dumps(event)}\n\n".encode())


async def _told(request: web.Request, problem: Refused) -> web.StreamResponse:
    """An error in place of the answer, or as the last of its bits."""
    request[CODE] = problem.code
    begun: web.StreamResponse | None = request.get(STREAM)
    if begun is not None:
        with suppress(ConnectionError):
            # It may be that the client went away.
            await _send(begun, problem.body())
        return begun
    return web.json_response(problem.body(), status=problem.status, headers=problem.headers)


@asynccontextmanager
async def listening(served: Served, host: str, port: int) -> AsyncIterator[str]:
    """The base URL, for as long as it is served. Raises BadInput where it cannot be."""
    async with loopback.listening(served.application(), host, port) as url:
        yield f"{url}/v1"


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
    served = Served(model, token=token, local=is_local_address(host), caps=caps, say=say)
    try:
        until_stopped(listening(served, host, port), heard)
    finally:
        model.close()
