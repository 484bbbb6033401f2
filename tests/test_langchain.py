"""Chat models of LangChain by the path of their class, here ChatOpenAI on the tests' server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from openai_server import OpenAIServer

import drpo
from drpo.conf.schema import LangchainSettings
from drpo.graph.errors import BadInput, RunPaused
from drpo.graph.values import ROLES, Message
from drpo.models.langchain import LangchainProvider
from drpo.models.provider import Call, TransportError
from drpo.settings import compose_settings

CHAT = "langchain_openai.ChatOpenAI"
SEARCH = ("search=greedy", "search.levels=2", "search.max_extension=0", "data.limit=4")
HELLO = Call(messages=(Message("system", "Be kind."), Message("user", "Hello?")))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody-0123456789")


def judge_on(server: OpenAIServer) -> list[str]:
    """The judge by its class, the others on the sandbox."""
    return [
        "provider@models.judge=langchain",
        f"models.judge._target_={CHAT}",
        "models.judge.model=judge",
        f"models.judge.options.base_url={server.base_url}",
    ]


class Told(BaseChatModel):
    """Answers, or fails, as it is told."""

    result: Any

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if isinstance(self.result, Exception):
            raise self.result
        return ChatResult(generations=[ChatGeneration(message=self.result)])

    @property
    def _llm_type(self) -> str:
        return "told"


def told(result: object) -> LangchainProvider:
    values = {"provider": "langchain", "_target_": f"{__name__}.Told", "model": "m"}
    settings = LangchainSettings.model_validate(values | {"options": {"result": result}})
    return LangchainProvider(settings, "judge", Told)


class Status(Exception):
    """As the errors of most makers' packages."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}, key sk-abcdefgh12345")
        self.status_code = status_code


async def test_a_role_runs_on_a_class_of_langchain(server: OpenAIServer, tmp_path: Path) -> None:
    """With tokens, and with the temperature that the settings say."""
    done = await drpo.optimize(*SEARCH, *judge_on(server), runs=tmp_path)
    assert done.summary["status"] == "done"
    assert done.summary["tokens"]["estimated"] is False
    bodies = [seen.body or {} for seen in server.requests]
    assert {body["model"] for body in bodies} == {"judge"}
    assert {body["temperature"] for body in bodies} == {0.0}


async def test_i5_a_class_that_only_a_file_names_is_not_imported(
    server: OpenAIServer, here: Here, tmp_path: Path
) -> None:
    """A resumed run needs the word of the person who resumes it."""
    runs = tmp_path / "runs"
    with pytest.raises(RunPaused):
        await drpo.optimize(*SEARCH, *judge_on(server), "budget.calls=2", runs=runs)
    with pytest.raises(BadInput, match=f"--trust {CHAT}"):
        await drpo.resume(None, "budget.calls=null", runs=runs)
    done = await drpo.resume(None, "budget.calls=null", runs=runs, trusted=[CHAT])
    assert done.summary["status"] == "done"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere.Model", "pip install nowhere"),
        ("langchain_openai.Nothing", "no such class"),
        ("builtins.print", "is no chat model of LangChain"),
        ("subprocess.Popen", "is no chat model of LangChain"),
    ],
)
async def test_c6_what_is_no_chat_model_is_one_line(path: str, said: str, tmp_path: Path) -> None:
    """Before anything is written."""
    words = ["provider@models.judge=langchain", f"models.judge._target_={path}"]
    with pytest.raises(BadInput, match=said):
        await drpo.optimize(*words, "models.judge.model=m", runs=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["api_key", "openai_api_key", "aws_secret_access_key"])
def test_i7_a_key_among_the_options_is_refused_and_not_repeated(name: str) -> None:
    """Settings are stored with the run."""
    words = ["provider@models.judge=langchain", f"models.judge._target_={CHAT}"]
    with pytest.raises(BadInput, match="environment") as caught:
        compose_settings([*words, "models.judge.model=m", f"models.judge.options.{name}=hush"])
    assert "hush" not in str(caught.value)


def test_a_file_of_settings_may_name_the_provider_of_a_role(here: Here, tmp_path: Path) -> None:
    """All that such a provider knows comes with it."""
    (tmp_path / "drpo.yaml").write_text(
        f"models:\n  judge:\n    provider: langchain\n    _target_: {CHAT}\n    model: m\n"
    )
    assert here("estimate").returncode == 0
    (tmp_path / "drpo.yaml").write_text("models:\n  judge:\n    provider: langchian\n")
    assert "langchain" in here("estimate").stderr


@pytest.mark.parametrize(
    ("message", "text", "reason", "thinking"),
    [
        (AIMessage("Hi."), "Hi.", "", ()),
        (AIMessage("Hi.", response_metadata={"stop_reason": "max_tokens"}), "Hi.", "length", ()),
        (AIMessage("", response_metadata={"finish_reason": "SAFETY"}), "", "content_filter", ()),
        (
            AIMessage([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "Hi."}]),
            "Hi.",
            "",
            ("Hm.",),
        ),
    ],
)
async def test_replies_of_many_makers_are_read_alike(
    message: AIMessage, text: str, reason: str, thinking: tuple[str, ...]
) -> None:
    """Text, end and thinking."""
    done = await told(message).complete(HELLO)
    assert done.texts == (text,)
    assert done.finish_reasons == (reason,)
    assert done.thinking == thinking


async def test_usage_is_counted_with_what_was_cached() -> None:
    """In LangChain's common words."""
    usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
    message = AIMessage("x", usage_metadata=usage | {"input_token_details": {"cache_read": 4}})
    done = await told(message).complete(HELLO)
    assert (done.prompt_tokens, done.completion_tokens, done.cached_tokens) == (9, 2, 4)


@pytest.mark.parametrize(
    ("error", "retry", "refused"),
    [
        (Status(429), True, False),
        (Status(529), True, False),
        (Status(500), True, False),
        (Status(401), False, True),
        (Status(400), False, False),
        (OSError("no route"), True, False),
        (TypeError("no such option"), False, False),
    ],
    ids=str,
)
async def test_errors_of_many_makers_are_told_apart(
    error: Exception, retry: bool, refused: bool
) -> None:
    """By the status that they carry, and without a key."""
    with pytest.raises(TransportError) as caught:
        await told(error).complete(HELLO)
    assert (caught.value.retry, caught.value.refused) == (retry, refused)
    assert "abcdefgh" not in str(caught.value)


async def test_l9_a_context_that_is_too_long_is_an_outcome() -> None:
    """As LangChain's packages tell it."""
    with pytest.raises(TransportError) as caught:
        await told(ContextOverflowError("too long")).complete(HELLO)
    assert caught.value.ended == "context_overflow"


@pytest.mark.parametrize("role", ["target", "rewarder", "judge", "rewriter"])
@pytest.mark.parametrize("provider", ["sandbox", "openai", "langchain", "huggingface"])
@pytest.mark.parametrize("preset", ["sandbox", "openai", "ollama", "vllm"])
def test_any_role_runs_on_any_provider(role: str, provider: str, preset: str) -> None:
    """By one word of the command line."""
    words = [f"models={preset}", f"provider@models.{role}={provider}", f"models.{role}.model=m"]
    words += [f"models.{role}._target_={CHAT}"] if provider == "langchain" else []
    found = compose_settings(words).models
    assert getattr(found, role).provider == provider
    others = {getattr(found, name).provider for name in ROLES if name != role}
    assert others == {"sandbox" if preset == "sandbox" else "openai"}
