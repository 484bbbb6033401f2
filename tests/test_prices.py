"""What tokens cost: the user's prices, the list's, or nobody's."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.outputs import Generation, LLMResult

from drpo.conf.schema import OpenAISettings, SandboxSettings
from drpo.models.openai import completion_of
from drpo.models.prices import Price, is_listed, listed_at, price_of
from drpo.settings import groups

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100}


def settings(**changes: Any) -> OpenAISettings:
    return OpenAISettings.model_validate({"provider": "openai", "model": "gpt-4o"} | changes)


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4o-mini-2024-07-18"])
def test_a_model_is_known_by_its_name_with_or_without_a_date(model: str) -> None:
    """The same price for both."""
    price = price_of(settings(model=model))
    assert price == Price(0.15, 0.075, 0.60)


def test_a_dated_model_with_a_price_of_its_own_keeps_it() -> None:
    """The exact name goes before the name without the date."""
    price = price_of(settings(model="gpt-4o-2024-05-13"))
    assert price == Price(5.0, 5.0, 15.0)


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini-audio", "gpt-4o-07-18", "ft:gpt-4o", "gpt", "llama"]
)
def test_a_name_that_is_only_alike_has_no_price(model: str) -> None:
    """A guess would be worse than none."""
    assert price_of(settings(model=model)) is None


def test_another_server_has_no_listed_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the settings or the environment name it."""
    assert price_of(settings(base_url="http://127.0.0.1:1/v1")) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert price_of(settings()) is None


def test_own_prices_go_before_the_list() -> None:
    """Each by itself; a prompt price of one's own holds for cached tokens too."""
    assert price_of(settings(price_in=7.0)) == Price(7.0, 7.0, 10.0)
    assert price_of(settings(price_out=7.0)) == Price(2.5, 1.25, 7.0)
    assert price_of(settings(model="mine", price_in=1.0, price_out=2.0)) == Price(1.0, 1.0, 2.0)
    assert price_of(settings(model="mine", price_in=1.0)) is None


def test_only_the_lists_prices_are_called_listed() -> None:
    """Not the user's own, and not the sandbox's."""
    sandbox = SandboxSettings(
        provider="sandbox", model="sandbox", world="noisy", profile="terse", seed=0
    )
    assert is_listed(settings())
    assert not is_listed(settings(price_in=1.0, price_out=1.0))
    assert not is_listed(sandbox)
    assert price_of(sandbox) == Price(0.0, 0.0, 0.0)


def test_cached_tokens_cost_less() -> None:
    """They are a part of the prompt's."""
    assert Price(2.0, 1.0, 10.0).cost_usd(1000, 100, 400) == pytest.approx(0.0026)


@pytest.mark.parametrize(
    ("details", "cost"),
    [
        (None, 0.0035),
        ({"cached_tokens": 400}, 0.003),
        ({"cached_tokens": "x"}, 0.0035),
        ([], 0.0035),
    ],
)
def test_a_call_is_priced_by_the_list(details: object, cost: float) -> None:
    """With what the server says of its cache, where it says so in the usual words."""
    price = price_of(settings())
    usage = USAGE | {"prompt_tokens_details": details}
    result = LLMResult(generations=[[Generation(text="x")]], llm_output={"token_usage": usage})
    done = completion_of(result, (), None)
    assert price is not None
    asked, said = done.prompt_tokens, done.completion_tokens
    assert asked is not None
    assert said is not None
    assert price.cost_usd(asked, said, done.cached_tokens) == pytest.approx(cost)


def test_the_list_has_a_date_and_is_no_group_of_the_configuration() -> None:
    """It says how old it is, and nobody can choose it."""
    assert listed_at().startswith("20")
    assert "prices" not in groups()
