"""What servers say of themselves that cannot be: counts, halves of characters, endless JSON."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Here

from drpo.conf.schema import OpenAISettings
from drpo.graph.errors import BadInput
from drpo.models.completions import tidied
from drpo.models.keys import api_key, header_values, secrets_of
from drpo.models.openai_errors import cleaned
from drpo.models.provider import Completion
from drpo.nodes.parsing import json_objects
from drpo.settings import compose_settings, resumed_settings

SETTINGS = OpenAISettings(
    provider="openai", model="m", base_url="http://127.0.0.1:9/v1", headers={"X-Key": "env:GATE"}
)


def said(**fields: Any) -> Completion:
    """Of a server."""
    usual: dict[str, Any] = {
        "texts": ("Yes.",),
        "finish_reasons": ("stop",),
        "prompt_tokens": 9,
        "completion_tokens": 2,
    }
    return tidied(Completion(**usual | fields))


@pytest.mark.parametrize("count", ["many", None, -3, 0, 1.5, True, 10**30, [], float("nan")])
def test_b2_a_count_that_cannot_be_is_none(count: Any) -> None:
    """So that it is estimated, and the budget holds."""
    assert said(prompt_tokens=count).prompt_tokens is None
    assert said(completion_tokens=count).completion_tokens is None


def test_a_whole_number_is_a_count_however_it_is_written() -> None:
    """JSON has one kind of number."""
    assert said(prompt_tokens=44.0).prompt_tokens == 44


@pytest.mark.parametrize(("cached", "taken"), [(5, 5), (100, 9), (-4, 0), ("all", 0)])
def test_no_more_is_cached_than_was_asked(cached: Any, taken: int) -> None:
    """Nor less than nothing."""
    assert said(cached_tokens=cached).cached_tokens == taken


def test_an_empty_answer_may_have_no_tokens() -> None:
    """Nothing is estimated then."""
    assert said(texts=("",), completion_tokens=0).completion_tokens == 0


def test_halves_of_characters_can_be_stored() -> None:
    """In texts, thinking and reasons."""
    found = said(texts=("a\ud800",), thinking=("b\ud800",), finish_reasons=("c\ud800",))
    assert (found.texts, found.thinking, found.finish_reasons) == (("a?",), ("b?",), ("c?",))


def test_i7_an_error_is_one_plain_line_without_secrets() -> None:
    """An empty one hides nothing and spoils nothing."""
    text = "\x1b]0;title\x07 no\ud800 entry for hunter2\n\x9b31m"
    assert cleaned(text, ("hunter2", "")) == "]0;title no? entry for [key] 31m"


def test_only_what_is_secret_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the word that stands in for a key, nor a header that the settings show."""
    monkeypatch.setenv("GATE", "hunter2")
    settings = SETTINGS.model_copy(update={"headers": {"X-Key": "env:GATE", "X-Title": "drpo"}})
    assert secrets_of(settings) == ("hunter2",)


@pytest.mark.parametrize("value", ["ab\ncd", "caf\xe9", "a\x1bb"])
def test_what_no_header_can_hold_is_bad_input(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anybody is asked; the value itself is not said."""
    monkeypatch.setenv("OPENAI_API_KEY", value)
    monkeypatch.setenv("GATE", value)
    for read in (api_key, header_values):
        with pytest.raises(BadInput, match="what no header can") as raised:
            read(SETTINGS)
        assert value not in str(raised.value)


@pytest.mark.parametrize(
    "text", ['{"a" ' * 5_000 + "}" * 5_000, "{x}" * 20_000, '{"a": [' * 400 + "}" * 800]
)
def test_json_that_would_take_minutes_to_mend_is_not_mended(text: str) -> None:
    """The search goes on, and signals are heard."""
    assert [found for found in json_objects(text) if found.get("aspect")] == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8399/v1", "ftp://host/v1", "http://h:99999/v1", "http:///v1", "host"]
)
def test_c6_an_address_that_cannot_be_is_refused(address: str, here: Here) -> None:
    """In one line that shows how one looks."""
    ended = here("estimate", "models=openai", f"openai.base_url={address}")
    assert ended.returncode == 2
    assert "is like http://127.0.0.1:8000/v1" in ended.stderr


def test_c2_how_long_a_server_is_waited_for_may_change_on_resume() -> None:
    """It changes no answer, and else a slow server could never be resumed."""
    settings = compose_settings(["models=openai"])
    changed = resumed_settings(settings, ["models.judge.timeout_s=7", "models.judge.attempts=2"])
    judge = changed.models.judge
    assert isinstance(judge, OpenAISettings)
    assert (judge.timeout_s, judge.attempts) == (7, 2)
    with pytest.raises(BadInput, match="cannot change"):
        resumed_settings(settings, ["models.judge.temperature=1"])
