"""What a server's error means: worth another try or not, a wrong key, a parameter it does not take.

Servers of many makers speak the OpenAI protocol and each has its own words for what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
import openai

from drpo.conf.schema import EmbeddingServerSettings, OpenAISettings
from drpo.models.provider import TransportError, too_late
from drpo.models.turns import storable

_KEY = re.compile(r"\b(?:sk|key|hf)[-_][A-Za-z0-9_*-]{6,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OVERLOADED = 529
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, _OVERLOADED)
_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.FAILED_DEPENDENCY, *BUSY)
"""Text Generation Inference says 424 when its workers fail, out of memory for one."""
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
_REFUSED_CODES = frozenset({"invalid_api_key", "model_not_found"})
_FINAL_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_OF_THE_REQUEST = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.NOT_IMPLEMENTED,
)
_TOO_LONG = re.compile(
    r"context.?length|context.?window|context size|maximum context|prompt is too long"
    r"|`inputs` tokens \+|`inputs` must have less than"
    r"|input is too long|input tokens exceed|too many (?:input )?tokens|reduce the length"
    r"|maximum prompt length|token count.{0,20}exceeds|`inputs` tokens|request too large",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content.?filter|content.?management.?policy|ResponsibleAIPolicy|content.?policy",
    re.IGNORECASE,
)
_NO_SYSTEM = re.compile(
    r"system.{0,20}(?:role|message|prompt).{0,40}(?:not|n't).{0,20}(?:support|allow)"
    r"|(?:not|n't).{0,20}support.{0,40}system|roles must alternate"
    r"|only user and assistant roles|(?:system|developer) instruction is not enabled",
    re.IGNORECASE,
)
_NO_CHOICES = re.compile(r"only one (?:completion )?choice", re.IGNORECASE)
_NO_SCHEMA = re.compile(r"json.?schema|grammar|guided|structured output", re.IGNORECASE)
_PLAIN_NAMES = (
    "max_completion_tokens",
    "max_tokens",
    "response_format",
    "temperature",
    "top_p",
    "seed",
)
"""Parameters whose names mean nothing else."""
_COMMON_WORDS = ("stop", "n")
"""An error may have them for another reason: they count in quotation marks or as a parameter."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """A server's error."""

    status: int
    words: str
    """All that it said."""
    body: str
    headers: Mapping[str, str]
    code: str = ""
    parameter: str = ""
    """Which it says is to blame."""


def explained(
    error: Exception,
    settings: OpenAISettings | EmbeddingServerSettings,
    sent: Collection[str],
    secrets: Sequence[str],
) -> TransportError:
    """The error in our words; `sent` are the parameters that the request had."""
    words = _words(error)
    text = cleaned(words, secrets)
    away = _never_connected(error)
    if isinstance(error, openai.APITimeoutError) and away is None:
        return too_late(settings.timeout_s)
    if not isinstance(error, openai.APIError):
        return TransportError(f"the server's reply cannot be used: {text}", retry=True)
    if isinstance(error, openai.APIConnectionError):
        said = f"cannot reach the server: {cleaned(away or text, secrets)}"
        return TransportError(said, retry=True, reached=False)
    if not isinstance(error, openai.APIStatusError):
        # In the middle of a stream that began well.
        return TransportError(f"the server says: {text}", retry=True)
    answer = Said(
        status=error.status_code,
        words=words,
        body=str(error.body),
        headers=error.response.headers,
        code=str(error.code or ""),
        parameter=str(error.param or "").split(".")[0],
    )
    found = by_status(answer, settings.model, sent, secrets)
    base_url = settings.base_url or ""
    if answer.status == HTTPStatus.NOT_FOUND and "/v1" not in base_url and base_url:
        found.args = (f"{found}; the addresses of most servers end in /v1",)
    return found


def by_status(
    said: Said, model: str, sent: Collection[str], secrets: Sequence[str]
) -> TransportError:
    """What a server means that answered, but not with an answer."""
    final = said.code in _FINAL_CODES
    later = said.status in _LATER or said.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    retry = later and not final
    refused = said.status in REFUSED or said.code in _REFUSED_CODES
    ended = parameter = None
    if said.status in _OF_THE_REQUEST and not refused and not final:
        ended = _ended(said.code, said.words)
        parameter = None if ended else _parameter(said, sent)
    return TransportError(
        f"the server says {said.status} to model {model!r}: {cleaned(said.words, secrets)}",
        retry=retry,
        wait_s=_retry_after(said.headers) if retry else None,
        refused=refused,
        busy=said.status in BUSY and retry,
        ended=ended,
        parameter=parameter,
        status=said.status,
    )


def _never_connected(error: BaseException) -> str | None:
    """Why. The aiohttp transport calls a refused connection or an unknown host a timeout, too."""
    cause = error.__cause__
    if isinstance(cause, httpx2.ConnectTimeout):
        return None if isinstance(cause.__cause__, TimeoutError) else str(cause)
    return None if cause is None else _never_connected(cause)


def _words(error: Exception) -> str:
    """All that the server said; the SDK leaves out what is not of OpenAI's own form."""
    if not isinstance(error, openai.APIError):
        return str(error)
    if not isinstance(error, openai.APIStatusError):
        return error.message
    # Its own words begin with the status, which is said already.
    said = error.message.removeprefix(f"Error code: {error.status_code}").removeprefix(" - ")
    return said or str(error.body or "")


def cleaned(text: str, secrets: Sequence[str] = ()) -> str:
    """One line, short, without a key, and without what a terminal or a file could not take."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "[key]")
    text = _CONTROL.sub(" ", storable(text))
    return _KEY.sub("[key]", " ".join(text.split()))[:300]


def _ended(code: str, text: str) -> str | None:
    """The finish reason that the server should have given instead of an error."""
    if "context_length" in code or _TOO_LONG.search(text):
        return "context_overflow"
    return "content_filter" if _FILTERED.search(f"{code} {text}") else None


def _parameter(error: Said, sent: Collection[str]) -> str | None:
    """Which of the parameters sent the server does not take, if that is what it says."""
    if error.parameter in sent and error.parameter != "system":
        return error.parameter
    if _NO_SYSTEM.search(error.words):
        return "system"
    said = f"{error.words} {error.body}"
    patterns = {name: rf"\b{name}\b" for name in _PLAIN_NAMES}
    patterns |= {name: _as_parameter(name) for name in _COMMON_WORDS}
    found = {
        name: match.start()
        for name, pattern in patterns.items()
        if name in sent and (match := re.search(pattern, said))
    }
    if found:
        # The first: what comes later may be advice, as in "use max_completion_tokens instead".
        return min(found, key=found.__getitem__)
    if "n" in sent and _NO_CHOICES.search(said):
        return "n"
    return "response_format" if "response_format" in sent and _NO_SCHEMA.search(said) else None


def _as_parameter(name: str) -> str:
    after = r"sequences?|parameter|value|is not|must be|:|> ?1|= ?1"
    before = r"parameter|argument|field|model|supplied"
    return rf"['\"`]{name}['\"`]|\b{name}\b ?(?:{after})|\b(?:{before}):? {name}\b"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, where the server names them, a number of them, or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
