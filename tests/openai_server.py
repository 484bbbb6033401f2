"""A local server that speaks the OpenAI protocol, for tests and benchmarks.

Every answer is a pure function of the request's bytes and the choice's index: a search over it
ends in the same tree whatever the order and the timing. It knows what the shipped templates look
like and imports nothing of drpo. `python tests/openai_server.py --help` runs it by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import resource
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO, TypeVar, get_args

from aiohttp import web

Role = Literal["target", "rewarder", "judge", "rewriter", "embedder"]
Profile = Literal["mixed", "rewrite", "skip"]
Kind = Literal[
    "status", "html", "garbage", "error200", "reset", "cut", "empty", "hang", "stall", "event"
]
IN_STREAMS = ("cut", "stall", "event")
"""What may happen in the middle of one."""

ROLES: tuple[Role, ...] = ("target", "rewarder", "judge", "rewriter")
"""Of the search; what is asked for vectors is no chat model."""
PROFILES: tuple[Profile, ...] = get_args(Profile)

SCORES: Mapping[Profile, tuple[int, ...]] = {
    "mixed": (1, 2, 3, 4, 5),
    "rewrite": (2, 3, 4),
    "skip": (5,),
}
"""What the judge draws from: `rewrite` never gives a reason to skip, `skip` always does."""

WIDTH = 256
"""Numbers of a vector."""

MOST_BULLETS = 8
"""Of a rewritten prompt, as nodes/templates/rewrite.jinja asks."""

ADVICE = (
    "state the main point before the details.",
    "say plainly what is uncertain and why.",
    "ask one short question where the request is ambiguous.",
    "give a concrete example where it helps.",
    "name a safe alternative before declining.",
    "keep the tone warm and free of lecturing.",
)
SENTENCES = (
    "The short version is that it depends on two things.",
    "First, look at what is already known and write it down.",
    "Then try the simplest step and see what changes.",
    "I cannot check this from here, so treat it as a starting point.",
    "If it gets urgent, ask somebody who can see the situation.",
    "A small example makes the difference clear.",
)


P = TypeVar("P", "Fault", "Script")


class BadRequest(ValueError):
    """The body is nothing this server answers."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, as far as its answer depends on it."""

    sha256: str
    """Of the body's bytes."""
    chat: bool
    """Whether it came as turns; otherwise as text to continue."""
    role: Role
    model: str
    n: int
    stop: tuple[str, ...]
    texts: tuple[str, ...]
    """What each group of `n` choices answers: one text, or one per prompt of a completion."""


@dataclass(kw_only=True)
class Seen:
    """One request that arrived, in `OpenAIServer.requests`."""

    sha256: str
    role: Role
    n: int
    at: float
    """Of arrival, in seconds of this machine's monotonic clock."""
    fault: Kind | None
    """What it met instead of an answer."""
    body: dict[str, Any] | None
    """None where the server keeps no bodies."""
    done: bool = False
    """Whether an answer was handed to the connection; never true of a fault."""


@dataclass(kw_only=True)
class Fault:
    """What the next `times` requests of `role` (None: of any) meet."""

    kind: Kind
    times: int
    role: Role | None
    status: int
    headers: Mapping[str, str]
    code: str | None
    """The error's code, e.g. `insufficient_quota`."""
    message: str
    body: object = None
    """The reply in place of the usual error object."""


@dataclass(kw_only=True)
class Script:
    """What the next `times` requests of `role` (None: of any) are answered with."""

    text: str
    times: int
    role: Role | None
    finish_reason: str | None
    refusal: str | None
    reasoning: Mapping[str, str]
    """Fields beside the content."""
    choices: int | None
    """How many; None for as many as were asked for."""
    calls: Sequence[Mapping[str, Any]] = ()
    """Of tools, in the protocol's form."""


@dataclass(kw_only=True)
class Refusal:
    """A parameter that requests of `role` (None: of any) may not have."""

    parameter: str
    role: Role | None
    status: int
    body: object
    """None for OpenAI's own words."""


class OpenAIServer:
    """Answers by role on a free port of 127.0.0.1, for as long as its `async with` lasts."""

    def __init__(
        self,
        *,
        latency_s: float = 0.0,
        profile: Profile = "mixed",
        log: Path | str | None = None,
        port: int = 0,
        keep_bodies: bool = True,
        counts: bool = True,
    ) -> None:
        """Nothing is opened before the `async with`.

        `latency_s` runs from the arrival of a request to its reply, scripted faults included. `log`
        is appended to: a line when a request arrives, another when its answer has been sent.
        Without `counts` a reply says nothing of tokens.
        """
        self._counts = counts
        self.requests: list[Seen] = []
        """In order of arrival."""
        self.largest_in_flight = 0
        self.in_flight = 0
        self._latency_s = latency_s
        self._profile = profile
        self._log_path = None if log is None else Path(log)
        self._log: TextIO | None = None
        self._port = port
        self._keep_bodies = keep_bodies
        self._faults: list[Fault] = []
        self._scripts: list[Script] = []
        self._refusals: list[Refusal] = []
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Start to listen, and open the log."""
        # Without cancellation a handler lives on after its client is gone, still counted as in
        # flight, and a killed client's calls would be logged as done.
        self._runner = web.AppRunner(
            self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        # The default backlog of 128 drops connections of a burst, and each then waits a second.
        await web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=4096).start()
        self._port = self._runner.addresses[0][1]
        if self._log_path is not None:
            self._log = _line_buffered(self._log_path)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drop whatever is still in flight, and close the log."""
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._log is not None:
            self._log.close()

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its `base_url`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def fail_next(
        self,
        *,
        status: int = 500,
        kind: Kind = "status",
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        role: Role | None = None,
        code: str | None = None,
        message: str = "scripted fault",
    ) -> None:
        """Let the next `times` requests (of `role`) fail; earlier calls of this are served first.

        `status` answers with an error object, `error200` with one and status 200, `html` with 200
        and a web page, `garbage` with broken JSON, `reset` drops the connection, `cut` in the
        middle of the answer, `empty` answers without choices, `hang` never answers, `stall` stops
        in the middle of a stream, `event` ends it with an error. `headers` are added to the reply
        where there is one.
        """
        self._faults.append(
            Fault(
                kind=kind,
                times=times,
                role=role,
                status=status,
                headers=headers or {},
                code=code,
                message=message,
            )
        )

    def say_next(
        self,
        text: str,
        *,
        role: Role | None = None,
        times: int = 1,
        finish_reason: str | None = "stop",
        refusal: str | None = None,
        reasoning: Mapping[str, str] | None = None,
        choices: int | None = None,
        calls: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Let the next `times` requests (of `role`) that meet no fault be answered with `text`.

        `reasoning` are fields of the message beside its content, by name; `choices` is how many of
        them there are, whatever was asked for; `calls` are those of tools.
        """
        self._scripts.append(
            Script(
                text=text,
                times=times,
                role=role,
                finish_reason=finish_reason,
                refusal=refusal,
                reasoning=reasoning or {},
                choices=choices,
                calls=calls,
            )
        )

    def refuse(
        self,
        parameter: str,
        *,
        role: Role | None = None,
        status: int = 400,
        body: object = None,
    ) -> None:
        """From now on every request (of `role`) with this parameter fails.

        `system` is a turn of that role. `body` are a server's own words; OpenAI's by default.
        """
        self._refusals.append(Refusal(parameter=parameter, role=role, status=status, body=body))

    def stats(self) -> dict[str, Any]:
        """The counts so far, as `GET /stats` gives them."""
        roles = Counter(seen.role for seen in self.requests)
        return {
            "requests": len(self.requests),
            "roles": {role: roles[role] for role in ROLES},
            "done": sum(seen.done for seen in self.requests),
            "faults": sum(seen.fault is not None for seen in self.requests),
            "in_flight": self.in_flight,
            "largest_in_flight": self.largest_in_flight,
            "cpu_s": time.process_time(),
        }

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", _models)
        app.router.add_get("/stats", self._stats)
        return app

    async def _stats(self, _request: web.Request) -> web.Response:
        return _json(self.stats())

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, chat=True)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, chat=False)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, chat=None)

    async def _serve(self, request: web.Request, *, chat: bool | None) -> web.StreamResponse:
        """As turns, as texts to continue, or (None) as texts that vectors are wanted of."""
        at = time.monotonic()
        raw = await request.read()
        try:
            body = _object(raw)
            asked = _to_embed(raw, body) if chat is None else _asked(raw, body, chat=chat)
        except BadRequest as problem:
            return _error(400, str(problem))
        fault = self._refused(asked.role, body) or _next_of(self._faults, asked.role)
        script = None if fault is not None else _next_of(self._scripts, asked.role)
        seen = self._arrived(asked, body, fault, at)
        try:
            # Built first, so that the work is inside the latency and not on top of it.
            if chat is None:
                payload = _embedded(asked, body)
            elif script is None:
                payload = reply(asked, self._profile)
            else:
                payload = _scripted(asked, script)
            if not self._counts:
                del payload["usage"]
            remaining = at + self._latency_s - time.monotonic()
            if remaining > 0:
                await asyncio.sleep(remaining)
            if fault is not None and fault.kind in IN_STREAMS and body.get("stream"):
                return await self._break_off(request, fault, payload)
            if fault is not None:
                return await self._fail(request, fault, asked, payload)
            if body.get("stream"):
                usage = bool((body.get("stream_options") or {}).get("include_usage"))
                return await self._stream(request, payload, seen, usage=usage)
            return await self._answer(request, payload, seen)
        finally:
            self.in_flight -= 1

    def _refused(self, role: Role, body: Mapping[str, Any]) -> Fault | None:
        for refusal in self._refusals:
            if refusal.role in (None, role) and _has(body, refusal.parameter):
                said = refusal.body
                return Fault(
                    kind="status",
                    times=1,
                    role=role,
                    status=refusal.status,
                    headers={},
                    code=None,
                    message="",
                    body=_unsupported(refusal.parameter) if said is None else said,
                )
        return None

    def _arrived(self, asked: Asked, body: dict[str, Any], fault: Fault | None, at: float) -> Seen:
        self.in_flight += 1
        self.largest_in_flight = max(self.largest_in_flight, self.in_flight)
        kind = None if fault is None else fault.kind
        seen = Seen(
            sha256=asked.sha256,
            role=asked.role,
            n=asked.n,
            at=at,
            fault=kind,
            body=body if self._keep_bodies else None,
        )
        self.requests.append(seen)
        line = {"sha256": seen.sha256, "role": seen.role, "n": seen.n, "at": at}
        self._write(line if kind is None else {**line, "fault": kind})
        return seen

    async def _answer(
        self, request: web.Request, payload: Mapping[str, Any], seen: Seen
    ) -> web.Response:
        """Send the answer here, not after the handler: only what was sent is logged as done."""
        response = _json(payload)
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            return response
        seen.done = True
        self._write({"sha256": seen.sha256, "done": True})
        return response

    async def _stream(
        self, request: web.Request, payload: Mapping[str, Any], seen: Seen, *, usage: bool
    ) -> web.StreamResponse:
        """The same words one by one."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            for event in _events(payload, usage=usage):
                await response.write(f"data: {json.dumps(event)}\n\n".encode())
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        except ConnectionError:
            return response
        seen.done = True
        self._write({"sha256": seen.sha256, "done": True})
        return response

    async def _break_off(
        self, request: web.Request, fault: Fault, payload: Mapping[str, Any]
    ) -> web.StreamResponse:
        """A stream of two words."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in list(_events(payload, usage=False))[:2]:
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        if fault.kind == "stall":
            await self._closing.wait()
        elif fault.kind == "event":
            error = {"error": {"message": fault.message, "code": fault.code}}
            await response.write(f"data: {json.dumps(error)}\n\n".encode())
        elif request.transport is not None:
            request.transport.abort()
        return response

    async def _fail(
        self, request: web.Request, fault: Fault, asked: Asked, payload: Mapping[str, Any]
    ) -> web.StreamResponse:
        status = fault.status
        if fault.kind == "reset":
            _reset(request)
        elif fault.kind == "cut":
            return await _cut(request, json.dumps(payload).encode())
        elif fault.kind == "hang":
            await self._closing.wait()
        elif fault.kind == "html":
            headers = {"Content-Type": "text/html; charset=utf-8", **fault.headers}
            return web.Response(body=b"<html><body>It works!</body></html>", headers=headers)
        elif fault.kind == "garbage":
            body = json.dumps(payload).encode()
            headers = {"Content-Type": "application/json", **fault.headers}
            return web.Response(body=body[: len(body) // 2], headers=headers)
        elif fault.kind == "empty":
            empty = {"object": "list", "data": []} if asked.role == "embedder" else None
            return _json(empty or _envelope(asked, [], ""), headers=fault.headers)
        elif fault.kind == "error200":
            status = 200
        if fault.body is not None:
            return _json(fault.body, status=status, headers=fault.headers)
        return _error(status, fault.message, code=fault.code, headers=fault.headers)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._log is not None:
            self._log.write(json.dumps(line) + "\n")


def reply(asked: Asked, profile: Profile) -> dict[str, Any]:
    """The body of the reply: pure, and different for each choice."""
    contents = [
        _choice_text(asked, text, f"{asked.sha256}/{group * asked.n + index}", profile)
        for group, text in enumerate(asked.texts)
        for index in range(asked.n)
    ]
    choices = [_choice(asked, index, content) for index, content in enumerate(contents)]
    return _envelope(asked, choices, "".join(contents))


def _scripted(asked: Asked, script: Script) -> dict[str, Any]:
    count = asked.n * len(asked.texts) if script.choices is None else script.choices
    choices = [_choice(asked, index, script.text) for index in range(count)]
    for choice in choices:
        choice["finish_reason"] = script.finish_reason
        if asked.chat:
            choice["message"] |= {**script.reasoning, "refusal": script.refusal}
            if script.refusal is not None:
                choice["message"]["content"] = None
            if script.calls:
                choice["message"] |= {"content": None, "tool_calls": list(script.calls)}
    return _envelope(asked, choices, (script.text + "".join(script.reasoning.values())) * count)


def _events(payload: Mapping[str, Any], *, usage: bool) -> Iterator[dict[str, Any]]:
    """A reply as the bits of a stream."""
    [choice] = payload["choices"]
    chat = "message" in choice
    text = str((choice["message"]["content"] if chat else choice["text"]) or "")
    kind = "chat.completion.chunk" if chat else payload["object"]
    around = {**payload, "object": kind}
    around.pop("usage", None)
    bits = re.findall(r"\s*\S+|\s+$", text)
    for at, bit in enumerate(bits):
        role: dict[str, str] = {} if at else {"role": "assistant"}
        said: dict[str, Any] = {"delta": {**role, "content": bit}} if chat else {"text": bit}
        yield {**around, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": None}]}
    for at, call in enumerate(choice["message"].get("tool_calls") or () if chat else ()):
        called = {"role": "assistant", "tool_calls": [{"index": at, **call}]}
        bit_of_it = {"index": 0, "delta": called, "logprobs": None, "finish_reason": None}
        yield {**around, "choices": [bit_of_it]}
    end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
    reason = choice["finish_reason"]
    yield {**around, "choices": [{"index": 0, **end, "logprobs": None, "finish_reason": reason}]}
    if usage:
        yield {**around, "choices": [], "usage": payload.get("usage")}


def _choice(asked: Asked, index: int, content: str) -> dict[str, Any]:
    said: dict[str, Any] = (
        {"message": {"role": "assistant", "content": content, "refusal": None}}
        if asked.chat
        else {"text": content}
    )
    return {"index": index, **said, "logprobs": None, "finish_reason": "stop"}


def _choice_text(asked: Asked, text: str, seed: str, profile: Profile) -> str:
    draws = hashlib.shake_256(seed.encode()).digest(256)
    if asked.role == "rewarder":
        said = _selection(text, draws)
    elif asked.role == "judge":
        said = _verdict(text, draws, SCORES[profile])
    elif asked.role == "rewriter":
        said = _rewrite(text, draws)
    else:
        said = _sentences(draws)
        if not asked.chat:
            # A base model does not stop by itself: it goes on to the next turn.
            said += "\n\n# Query\nAnd then?\n\n# Answer\nNothing."
    for stop in asked.stop:
        said = said.partition(stop)[0]
    return said


def _selection(text: str, draws: bytes) -> str:
    listed = _listed_aspects(text, text.find("Aspects to choose from:"))
    count = min(len(listed), 2 + draws[-1] % 4)
    # By a drawn rank, so that each subset of that size is as likely as any other.
    ranked = sorted(range(len(listed)), key=lambda at: (draws[at % len(draws)], at))
    chosen = [listed[at] for at in sorted(ranked[:count])]
    analysis = dict.fromkeys(("topic", "intent", "ambiguities", "form", "challenges"), "plain")
    return json.dumps(
        {
            "analysis": analysis,
            "reason": f"Reason {draws[:4].hex()}: these decide here.",
            "aspects": [{"name": name, "definition": meaning} for name, meaning in chosen],
        }
    )


def _verdict(text: str, draws: bytes, scores: Sequence[int]) -> str:
    mark = draws[:4].hex()
    verdict = [
        {
            "aspect": name,
            "rationale": f"Rationale {mark}: some of it is there.",
            "score": scores[draws[(4 + at) % len(draws)] % len(scores)],
        }
        for at, (name, _) in enumerate(_listed_aspects(text, text.rfind("Aspects to judge:")))
    ]
    return json.dumps({"verdict": verdict})


def _rewrite(text: str, draws: bytes) -> str:
    mark = draws[:4].hex()
    bullet = f"- Note {mark}: {ADVICE[draws[4] % len(ADVICE)]}"
    prompts = _current_prompts(text) or {"system": ""}
    return json.dumps(
        {
            "analysis": f"Analysis {mark}: one more bullet point.",
            "prompts": {name: _with_bullet(prompt, bullet) for name, prompt in prompts.items()},
        }
    )


def _sentences(draws: bytes) -> str:
    chosen = [SENTENCES[draw % len(SENTENCES)] for draw in draws[4 : 6 + draws[-1] % 3]]
    return " ".join((f"This is answer {draws[:4].hex()}.", *chosen))


def _with_bullet(prompt: str, bullet: str) -> str:
    lines = prompt.rstrip("\n").split("\n") if prompt else []
    bullets = [at for at, line in enumerate(lines) if line.startswith("- ")]
    if len(bullets) >= MOST_BULLETS:
        # Of its own notes the oldest: a bullet of the root prompt may be a locked sentence.
        own = [at for at in bullets if lines[at].startswith("- Note ")]
        excess = len(bullets) - MOST_BULLETS + 1
        dropped = set((own + [at for at in bullets if at not in own])[:excess])
        lines = [line for at, line in enumerate(lines) if at not in dropped]
    return "\n".join((*lines, bullet))


def _listed_aspects(text: str, start: int) -> list[tuple[str, str]]:
    """Names and definitions of the list whose heading stands at `start`."""
    if start < 0:
        return []
    end = text.find("\n<query-", start)
    listed = []
    for line in text[start : end if end >= 0 else len(text)].split("\n"):
        if line.startswith("- "):
            name, _, meaning = line[2:].partition(": ")
            listed.append((name, meaning))
    return listed


def _current_prompts(text: str) -> dict[str, str]:
    """The fenced prompts by name; the first blank line after one ends them."""
    prompts: dict[str, str] = {}
    at = text.find("\n<prompt-")
    while at >= 0:
        name = text[text.rfind("\n", 0, at) + 1 : at].removesuffix(":")
        opened = text.find(">\n", at)
        closing = f"\n</{text[at + 2 : opened]}>"
        end = text.find(closing, opened + 1)
        if opened < 0 or end < 0:
            break
        prompts[name] = text[opened + 2 : end]
        after = end + len(closing)
        at = -1 if text.startswith("\n\n", after) else text.find("\n<prompt-", after)
    return prompts


def _asked(raw: bytes, body: dict[str, Any], *, chat: bool) -> Asked:
    n = body.get("n") or 1
    if not isinstance(n, int) or n < 1:
        raise BadRequest(f"n: {n!r} is no number of choices")
    if body.get("stream") and n > 1:
        raise BadRequest("stream: this server streams one choice only")
    texts = (_conversation(body.get("messages")),) if chat else _prompt(body.get("prompt"))
    stop = body.get("stop") or ()
    model = str(body.get("model", ""))
    return Asked(
        sha256=hashlib.sha256(raw).hexdigest(),
        chat=chat,
        role=_role(model, texts[0]),
        model=model,
        n=n,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        texts=texts,
    )


def _to_embed(raw: bytes, body: dict[str, Any]) -> Asked:
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise BadRequest("input: a text or a list of texts is needed, and no numbers of tokens")
    return Asked(
        sha256=hashlib.sha256(raw).hexdigest(),
        chat=False,
        role="embedder",
        model=str(body.get("model", "")),
        n=1,
        stop=(),
        texts=tuple(texts),
    )


def _embedded(asked: Asked, body: Mapping[str, Any]) -> dict[str, Any]:
    """One vector of each text, as numbers or packed."""
    packed = body.get("encoding_format") == "base64"
    vectors = [vector_of(text) for text in asked.texts]
    data = [base64.b64encode(struct.pack(f"<{WIDTH}f", *each)).decode() for each in vectors]
    return {
        "object": "list",
        "model": asked.model,
        "data": [
            {"object": "embedding", "index": at, "embedding": data[at] if packed else vector}
            for at, vector in enumerate(vectors)
        ],
        "usage": dict.fromkeys(("prompt_tokens", "total_tokens"), sum(map(_tokens, asked.texts))),
    }


def vector_of(text: str) -> list[float]:
    """Words that two texts have in common make their vectors alike."""
    vector = [0.0] * WIDTH
    for word in text.casefold().split():
        vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % WIDTH] += 1.0
    return vector


def _role(model: str, text: str) -> Role:
    """Who is asked: the model's name says it, or else what the shipped templates write."""
    for role in ROLES:
        if model == role:
            return role
    if "\nAspects to judge:" in text and "\n<answer-" in text:
        return "judge"
    if "\n<prompt-" in text:
        return "rewriter"
    if "Aspects to choose from:" in text:
        return "rewarder"
    return "target"


def _next_of(planned: list[P], role: Role) -> P | None:
    """The first that is meant for `role`, used up once more."""
    for each in planned:
        if each.role in (None, role):
            each.times -= 1
            if each.times <= 0:
                planned.remove(each)
            return each
    return None


def _has(body: Mapping[str, Any], parameter: str) -> bool:
    if parameter == "system":
        return any(turn.get("role") == "system" for turn in body.get("messages") or ())
    return body.get(parameter) is not None


def _unsupported(parameter: str) -> dict[str, Any]:
    """In the words of api.openai.com."""
    return {
        "error": {
            "message": f"Unsupported parameter: '{parameter}' is not supported with this model.",
            "type": "invalid_request_error",
            "param": parameter,
            "code": "unsupported_parameter",
        }
    }


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object")
    return body


def _conversation(messages: object) -> str:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: a list with at least one message is needed")
    return "\n".join(_content(message) for message in messages)


def _content(message: object) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _prompt(prompt: object) -> tuple[str, ...]:
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or not texts or not isinstance(texts[0], str):
        raise BadRequest("prompt: a text or a list of texts is needed")
    return tuple(str(text) for text in texts)


def _envelope(asked: Asked, choices: Sequence[Mapping[str, Any]], said: str) -> dict[str, Any]:
    before, after = sum(map(_tokens, asked.texts)), _tokens(said)
    return {
        "id": f"{'chatcmpl' if asked.chat else 'cmpl'}-{asked.sha256[:24]}",
        "object": "chat.completion" if asked.chat else "text_completion",
        "created": 1_700_000_000,
        "model": asked.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": before,
            "completion_tokens": after,
            "total_tokens": before + after,
        },
    }


def _tokens(text: str) -> int:
    return (len(text) + 3) // 4


def _json(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        headers={"Content-Type": "application/json", **(headers or {})},
    )


def _error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return _json({"error": error}, status=status, headers=headers)


async def _models(_request: web.Request) -> web.Response:
    listed = [{"id": role, "object": "model", "created": 0, "owned_by": "tests"} for role in ROLES]
    return _json({"object": "list", "data": listed})


def _reset(request: web.Request) -> None:
    if request.transport is not None:
        # Lingering for 0 s turns the close into a reset; otherwise the client sees an orderly end.
        linger = struct.pack("ii", 1, 0)
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()


async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
    """Half of what its header promises."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response


def _line_buffered(path: Path) -> TextIO:
    return path.open("a", encoding="utf-8", buffering=1)


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with OpenAIServer(
        latency_s=arguments.latency_ms / 1000,
        profile=arguments.profile,
        log=arguments.log,
        port=arguments.port,
        keep_bodies=False,
    ) as server:
        sys.stdout.write(f"listening on {server.base_url}\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description="A local server that speaks the OpenAI protocol.")
    parser.add_argument("--port", type=int, default=0, help="0 for any free one")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--profile", choices=PROFILES, default="mixed")
    parser.add_argument("--log", type=Path, help="a file to append a JSON line per request to")
    # 1,000 connections and more do not fit under the usual soft limit of 1,024 open files.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
