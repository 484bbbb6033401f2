"""The OpenAI protocol as `drpo serve` speaks it: requests read and checked, answers written.

Pure: knows neither the network nor the model that answers. What a client may choose is listed here,
and nothing else of a request has an effect.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    ValidationError,
    field_validator,
)

from drpo.checkpoints.rows import decoded
from drpo.graph.errors import BadInput, DrpoError
from drpo.models.openai_errors import cleaned
from drpo.models.provider import TransportError

PASSED_ON = (
    "frequency_penalty",
    "max_completion_tokens",
    "max_tokens",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
)
"""What a client may choose; without it the request is the one of the search."""
LABELS = frozenset(
    {"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"}
)
"""Taken and not passed on: they are of the client and a server of its own."""
SYSTEM_ROLE = "__openai_role__"
"""Where langchain-openai keeps that a system turn is called otherwise."""
REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})
LEAST_WAIT_S = 1
MOST_TURNS = 4_096
"""Of one conversation; more would keep every other client waiting."""
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
OF_THE_REQUEST = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)

Stops = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given or ()),
]


class Refused(Exception):
    """A request that gets an error in the protocol's form; its text is one line without keys."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        parameter: str | None = None,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(cleaned(message))
        self.status = status
        self.code = code
        self.parameter = parameter
        self.wait_s = wait_s
        """After which another try makes sense; None where it makes none."""

    @property
    def headers(self) -> dict[str, str]:
        """Beside the error."""
        if self.wait_s is None:
            return {}
        return {"Retry-After": str(max(LEAST_WAIT_S, math.ceil(self.wait_s)))}

    def body(self) -> dict[str, Any]:
        """As the protocol has it."""
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            kind = "rate_limit_error"
        elif self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = "server_error"
        else:
            kind = "invalid_request_error"
        said = {"message": str(self), "type": kind, "param": self.parameter, "code": self.code}
        return {"error": said}


class _Function(BaseModel):
    name: str
    arguments: str


class _ToolCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: _Function


class _Part(BaseModel):
    """A piece of a turn; what else it has goes on as it is."""

    model_config = ConfigDict(extra="allow")
    type: Literal["text", "image_url", "input_audio", "file", "refusal"]


class _Turn(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None

    def message(self) -> BaseMessage:
        """As LangChain has it."""
        content: Any = self.content
        if isinstance(self.content, list):
            content = [part.model_dump() for part in self.content]
        match self.role:
            case "assistant":
                calls = [call.model_dump() for call in self.tool_calls or ()]
                more = {"tool_calls": calls} if calls else {}
                return AIMessage(content or "", name=self.name, additional_kwargs=more)
            case _ if content is None:
                raise ValueError(f"a turn of role {self.role!r} needs content")
            case "tool":
                if self.tool_call_id is None:
                    raise ValueError("a turn of role 'tool' needs tool_call_id")
                return ToolMessage(content, tool_call_id=self.tool_call_id)
            case "developer":
                return SystemMessage(
                    content, name=self.name, additional_kwargs={SYSTEM_ROLE: "developer"}
                )
            case "system":
                return SystemMessage(content, name=self.name)
            case "user":
                return HumanMessage(content, name=self.name)


class _StreamOptions(BaseModel):
    include_usage: StrictBool = False


class Asked(BaseModel):
    """A request for an answer."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    messages: list[_Turn] = Field(min_length=1, max_length=MOST_TURNS)
    model: str | None = None
    """Without effect: there is one model, and a client does not choose another."""
    stream: StrictBool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=1)] | None = None
    logprobs: Literal[False] | None = None
    stop: Stops = ()
    temperature: float | None = Field(default=None, ge=0, le=2, strict=True)
    top_p: float | None = Field(default=None, ge=0, le=1, strict=True)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, strict=True)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, strict=True)
    max_tokens: int | None = Field(default=None, ge=1, strict=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, strict=True)
    seed: int | None = Field(default=None, strict=True)
    reasoning_effort: str | None = None
    tools: list[dict[str, JsonValue]] | None = None
    tool_choice: str | dict[str, JsonValue] | None = None
    parallel_tool_calls: StrictBool | None = None
    response_format: dict[str, JsonValue] | None = None

    @field_validator("tools")
    @classmethod
    def _functions(
        cls, tools: list[dict[str, JsonValue]] | None
    ) -> list[dict[str, JsonValue]] | None:
        for each in tools or ():
            match each:
                case {"type": "function", "function": {"name": str()}}:
                    pass
                case _:
                    raise ValueError("a tool is {'type': 'function', 'function': {'name': ...}}")
        return tools

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def turns(self) -> list[BaseMessage]:
        """The conversation. Raises Refused."""
        try:
            return [turn.message() for turn in self.messages]
        except ValueError as error:
            raise Refused(400, "invalid_request", f"messages: {error}") from None

    def options(self) -> dict[str, Any]:
        """What the client chose, by name."""
        given = {name: getattr(self, name) for name in PASSED_ON}
        chosen: dict[str, Any] = {"stop": list(self.stop)} if self.stop else {}
        return chosen | {name: value for name, value in given.items() if value is not None}


def read(body: bytes) -> Asked:
    """A request out of its body. Raises Refused."""
    try:
        # pydantic takes NaN and 1e999 for numbers, which no request can be written with.
        decoded(body.decode())
        asked = Asked.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        said = first["msg"].removeprefix("Value error, ")
        place = ".".join(str(part) for part in first["loc"])
        text = f"{place[:100]}: {said}" if place else said
        name = str(first["loc"][0])[:40] if first["loc"] else None
        raise Refused(400, "invalid_request", text, parameter=name) from None
    except (ValueError, RecursionError):
        raise Refused(400, "invalid_request", "the body is not JSON") from None
    unknown = [
        name
        for name, value in (asked.model_extra or {}).items()
        if value is not None and name not in LABELS
    ]
    if unknown:
        name = unknown[0][:40]
        known = ", ".join(("messages", "stream", "stop", *PASSED_ON))
        said = f"{name!r} cannot be chosen here; what can: {known}"
        raise Refused(400, "unsupported_parameter", said, parameter=name)
    return asked


def refused(error: DrpoError) -> Refused:
    """What a client is told of an answer that did not come."""
    if isinstance(error, BadInput):
        return Refused(400, "invalid_request", str(error))
    problem = error.__cause__
    if not isinstance(problem, TransportError):
        return Refused(502, "upstream_failed", str(error))
    status, code = _meaning(problem)
    later = LEAST_WAIT_S if status in BUSY else None
    wait_s = problem.wait_s or later
    return Refused(status, code, str(problem), parameter=problem.parameter, wait_s=wait_s)


def _meaning(problem: TransportError) -> tuple[int, str]:
    """Status and code."""
    told = (
        (problem.ended == "context_overflow", 400, "context_length_exceeded"),
        (problem.ended is not None, 400, problem.ended or ""),
        # Never 401: the client's own token is not what is wrong.
        (problem.refused, 502, "upstream_refused"),
        (problem.retry and problem.status == HTTPStatus.TOO_MANY_REQUESTS, 429, "upstream_busy"),
        (problem.busy or not problem.reached, 503, "upstream_away"),
        (problem.parameter is not None, 400, "unsupported_parameter"),
        (problem.status in OF_THE_REQUEST, 400, "invalid_request"),
    )
    return next(((at, code) for holds, at, code in told if holds), (502, "upstream_failed"))


class Reply:
    """What is written of one answer: whole, or as the bits of a stream."""

    def __init__(self, ident: str, created: int, model: str) -> None:
        self._head: dict[str, Any] = {"id": f"chatcmpl-{ident}", "created": created, "model": model}
        self._reason = ""
        self._called = False
        self._calls = 0
        self.usage: dict[str, Any] | None = None
        """As far as it is known."""

    def whole(self, said: AIMessage) -> dict[str, Any]:
        """All of it."""
        self._note(said)
        calls = _calls(said)
        text = str(said.text)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._ended()}
        told = {**self._head, "object": "chat.completion", "choices": [choice]}
        return told if self.usage is None else told | {"usage": self.usage}

    def begun(self) -> dict[str, Any]:
        """The first bit of a stream."""
        return self._bit({"role": "assistant", "content": ""})

    def bit(self, said: BaseMessage) -> dict[str, Any] | None:
        """One more bit; None where there is nothing to hear of it."""
        self._note(said)
        delta: dict[str, Any] = {}
        if said.text:
            delta["content"] = str(said.text)
        if isinstance(said, AIMessageChunk) and said.tool_call_chunks:
            delta["tool_calls"] = [self._call(each) for each in said.tool_call_chunks]
        return self._bit(delta) if delta else None

    def ended(self) -> dict[str, Any]:
        """The bit that says why there are no more."""
        return self._bit({}, self._ended())

    def counted(self) -> dict[str, Any]:
        """The last bit, for who asked for the count of tokens."""
        return self._bit(None) | {"usage": self.usage}

    def _bit(self, delta: Mapping[str, Any] | None, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        choices = [] if delta is None else [choice]
        return {**self._head, "object": "chat.completion.chunk", "choices": choices}

    def _note(self, said: BaseMessage) -> None:
        self._reason = str(said.response_metadata.get("finish_reason") or self._reason)
        if isinstance(said, AIMessage):
            self._called = self._called or bool(said.tool_calls)
            self.usage = _usage(said.usage_metadata) or self.usage

    def _ended(self) -> str:
        """In the protocol's own words; what stops for a refusal, or at a token, stops."""
        if self._reason in REASONS:
            return self._reason
        return "tool_calls" if self._called else "stop"

    def _call(self, chunk: Mapping[str, Any]) -> dict[str, Any]:
        """A bit of a tool call; the first of each has its id."""
        at = chunk.get("index")
        if at is None:
            at = self._calls - 1 if chunk.get("id") is None else self._calls
        self._calls = max(self._calls, int(at) + 1)
        function = {
            name: chunk.get(key)
            for name, key in (("name", "name"), ("arguments", "args"))
            if chunk.get(key) is not None
        }
        begun = {} if chunk.get("id") is None else {"id": chunk["id"], "type": "function"}
        return {"index": at, **begun, "function": function}


def _calls(said: AIMessage) -> list[dict[str, Any]]:
    calls: Sequence[Mapping[str, Any]] = [*said.tool_calls, *said.invalid_tool_calls]
    return [
        {
            "id": each["id"] or f"call_{at}",
            "type": "function",
            "function": {"name": each["name"], "arguments": _arguments(each["args"])},
        }
        for at, each in enumerate(calls)
    ]


def _arguments(args: Any) -> str:
    return args or "" if args is None or isinstance(args, str) else json.dumps(args)


def _usage(said: UsageMetadata | None) -> dict[str, Any] | None:
    if said is None:
        return None
    told: dict[str, Any] = {
        "prompt_tokens": said["input_tokens"],
        "completion_tokens": said["output_tokens"],
        "total_tokens": said["total_tokens"],
    }
    cached = said.get("input_token_details", {}).get("cache_read")
    thought = said.get("output_token_details", {}).get("reasoning")
    if cached is not None:
        told["prompt_tokens_details"] = {"cached_tokens": cached}
    if thought is not None:
        told["completion_tokens_details"] = {"reasoning_tokens": thought}
    return told
