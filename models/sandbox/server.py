"""The sandbox over HTTP, as an OpenAI-compatible server: the same texts, bit for bit.

The model's name chooses the role (`sandbox-judge`, ...); model `sandbox` is every role, told apart
by the fenced texts it is asked with. The request's `seed` is the sample index.
Any key is accepted; it listens on the loopback unless told otherwise.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from drpo.conf.schema import SandboxSettings
from drpo.graph.errors import problem_of
from drpo.graph.values import ROLES, Message, Role
from drpo.models.provider import Call, Completion
from drpo.models.sandbox.provider import Sandbox
from drpo.models.sandbox.texts import fenced, pieces_of

LARGEST_BODY = 8 * 1024 * 1024
MOST_CHOICES = 128
ANY_ROLE = "sandbox"
Stops = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given or ()),
]


class _Turn(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class _Asked(BaseModel):
    """What both endpoints read of a request; the rest has no effect here."""

    model_config = ConfigDict(extra="ignore")
    model: str
    n: int = Field(default=1, ge=1, le=MOST_CHOICES)
    seed: int = Field(default=0, ge=0)
    stop: Stops = ()
    stream: Literal[False] | None = None


A = TypeVar("A", bound=_Asked)


class _Chat(_Asked):
    messages: list[_Turn] = Field(min_length=1)


class _Text(_Asked):
    prompt: str


class _Refused(Exception):
    """A request that gets an error in the protocol's form."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def application(settings: SandboxSettings) -> web.Application:
    """The server of one world."""
    served = _Served(settings)
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_errors])
    app.router.add_post("/v1/chat/completions", served.chat)
    app.router.add_post("/v1/completions", served.text)
    app.router.add_get("/v1/models", served.models)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except _Refused as problem:
        return _error(problem.status, problem.code, str(problem))
    except web.HTTPException as problem:
        return _error(problem.status, "invalid_request", problem.reason)
    return response


def _error(status: int, code: str, message: str) -> web.Response:
    said = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": said}, status=status)


class _Served:
    """The four roles of one world."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._roles = {f"{ANY_ROLE}-{role}": Sandbox(settings, role) for role in ROLES}

    async def chat(self, request: web.Request) -> web.Response:
        """Turns."""
        asked = await _read(request, _Chat)
        messages = tuple(Message(turn.role, turn.content) for turn in asked.messages)
        done = await self._complete(asked, messages)
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": reason,
            }
            for index, (text, reason) in enumerate(_ended(done))
        ]
        return _reply("chat.completion", asked.model, choices, done)

    async def text(self, request: web.Request) -> web.Response:
        """One text to continue."""
        asked = await _read(request, _Text)
        done = await self._complete(asked, (Message("user", asked.prompt),))
        choices = [
            {"index": index, "text": text, "finish_reason": reason}
            for index, (text, reason) in enumerate(_ended(done))
        ]
        return _reply("text_completion", asked.model, choices, done)

    async def models(self, _: web.Request) -> web.Response:
        """Every name there is."""
        names = (ANY_ROLE, *self._roles)
        known = [{"id": name, "object": "model", "owned_by": "drpo"} for name in names]
        return web.json_response({"object": "list", "data": known})

    async def _complete(self, asked: _Asked, messages: tuple[Message, ...]) -> Completion:
        name = f"{ANY_ROLE}-{role_of(messages)}" if asked.model == ANY_ROLE else asked.model
        role = self._roles.get(name)
        if role is None:
            names = ", ".join((ANY_ROLE, *self._roles))
            raise _Refused(404, "model_not_found", f"there is no model {asked.model!r}: {names}")
        return await role.complete(
            Call(messages=messages, sample=asked.seed, n=asked.n, stop=asked.stop)
        )


def role_of(messages: Sequence[Message]) -> Role:
    """Who is asked with these messages, by the fenced texts in them."""
    pieces = pieces_of(messages)
    if fenced(pieces, "prompt") or fenced(pieces, "draft"):
        return "rewriter"
    if fenced(pieces, "answer"):
        return "judge"
    return "rewarder" if fenced(pieces, "query") else "target"


async def _read(request: web.Request, kind: type[A]) -> A:
    """The request's JSON, checked."""
    try:
        return kind.model_validate(json.loads(await request.read()))
    except ValidationError as error:
        raise _Refused(400, "invalid_request", problem_of(error)) from None
    except (ValueError, RecursionError):
        raise _Refused(400, "invalid_request", "the body is not JSON") from None


def _ended(done: Completion) -> zip[tuple[str, str]]:
    return zip(done.texts, done.finish_reasons, strict=True)


def _reply(
    kind: str, model: str, choices: Sequence[Mapping[str, Any]], done: Completion
) -> web.Response:
    asked, said = done.prompt_tokens or 0, done.completion_tokens or 0
    usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    return web.json_response(
        {
            "id": f"sandbox-{time.time_ns()}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "choices": choices,
            "usage": usage,
        }
    )
