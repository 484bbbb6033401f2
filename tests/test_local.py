"""Models in this process: a tiny one with random weights, through the real transformers."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp.test_utils import TestServer
from tiny_model import Template, tiny_model
from transformers import AutoTokenizer, LlamaForCausalLM

import drpo
from drpo.conf.schema import LocalSettings, SandboxSettings
from drpo.graph.errors import BadInput, ProviderRefused
from drpo.graph.values import Message
from drpo.models import generation
from drpo.models.batching import Batcher, Drawing, OutOfMemory, Row, Worker, Written
from drpo.models.generation import LocalModel, Unloadable, _Draws
from drpo.models.local import LocalProvider, check_local, local_models
from drpo.models.provider import Call, TransportError
from drpo.models.sandbox.server import application

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a chat model whose template has a system role."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def settings(folder: Path | str, **changes: Any) -> LocalSettings:
    values = {"provider": "huggingface", "model": str(folder), "max_tokens": 24}
    return LocalSettings.model_validate(values | changes)


@asynccontextmanager
async def opened(folder: Path | str, **changes: Any) -> AsyncIterator[LocalProvider]:
    async with local_models() as models:
        yield await models.provider(settings(folder, **changes), "target")


def asking(text: str, system: str | None = "Be kind.", **call: Any) -> Call:
    head = () if system is None else (Message("system", system),)
    return Call(messages=(*head, Message("user", text)), **call)


MANY = [asking("Hello" + "!" * (3 * number)) for number in range(9)]
"""Of different lengths, so that all but one are padded."""


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_batch_gives_what_each_call_gives_by_itself(
    temperature: float, folder: Path
) -> None:
    """Texts, reasons and tokens; drawn ones too, because each row has its own random generator."""
    async with opened(folder, temperature=temperature, top_p=0.9) as provider:
        alone = [await provider.complete(call) for call in MANY]
        together = await asyncio.gather(*(provider.complete(call) for call in MANY))
    assert together == alone
    assert len({done.texts for done in alone}) == len(MANY)


async def test_concurrent_calls_are_one_forward_pass(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the size of a batch; calls with other stop sequences are one of their own."""
    sizes = watched(monkeypatch)
    async with opened(folder, batch_size=4, batch_wait_ms=50) as provider:
        await asyncio.gather(*(provider.complete(call) for call in MANY))
        assert sizes == [4, 4, 1]
        calls = [asking(str(at), stop=("x",) if at % 2 else ()) for at in range(4)]
        await asyncio.gather(*(provider.complete(call) for call in calls))
        assert sizes[3:] == [2, 2]


def watched(monkeypatch: pytest.MonkeyPatch, fits: int = 1000) -> list[int]:
    """Rows of every batch that is generated; those with more than `fits` find no memory."""
    sizes: list[int] = []
    generate: Callable[..., Any] = LlamaForCausalLM.generate

    def generating(self: Any, **options: Any) -> Any:
        sizes.append(len(options["input_ids"]))
        if sizes[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n2 GiB")
        return generate(self, **options)

    monkeypatch.setattr(LlamaForCausalLM, "generate", generating)
    return sizes


async def test_several_completions_are_rows_of_one_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Different ones; the prompt's tokens count once."""
    sizes = watched(monkeypatch)
    async with opened(folder, temperature=1.0) as provider:
        three = await provider.complete(asking("Hello", n=3))
        one = await provider.complete(asking("Hello", sample=1))
    assert sizes == [3, 1]
    assert len(set(three.texts)) == 3
    assert one.texts == three.texts[1:2]
    assert one.prompt_tokens == three.prompt_tokens
    assert three.completion_tokens == 3 * 24


async def test_the_same_sample_is_the_same_text_another_day(folder: Path) -> None:
    """And another sample is another text."""
    texts = []
    for _ in range(2):
        async with opened(folder, temperature=0.7) as provider:
            done = [await provider.complete(asking("Hello", sample=at)) for at in range(3)]
            texts.append([each.texts for each in done])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3


def test_draws_follow_the_distribution() -> None:
    """Every token as often as its probability says, and an excluded one never."""
    shares = torch.tensor([0.5, 0.3, 0.2, 0.0])
    draws = _Draws(range(4000), torch.device("cpu"))
    scores = draws(torch.zeros((4000, 1)), shares.log().repeat(4000, 1))
    counts = Counter(scores.argmax(-1).tolist())
    assert 3 not in counts
    assert all(abs(counts[at] / 4000 - shares[at]) < 0.025 for at in range(3))


async def test_prompts_begin_once_and_are_counted_without_padding(folder: Path) -> None:
    """The template writes the token of the beginning, so the tokenizer must not."""
    call = asking("Hello?")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": turn.role, "content": turn.content} for turn in call.messages]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokens.count(tokenizer.bos_token_id) == 1
    async with opened(folder) as provider:
        short, _ = await asyncio.gather(
            provider.complete(call), provider.complete(asking("long " * 50))
        )
    assert short.prompt_tokens == len(tokens)


async def test_an_end_token_ends_its_row_alone(folder: Path, tmp_path: Path) -> None:
    """With the reason `stop` and its tokens counted; the others go on to their full length."""
    async with opened(folder) as provider:
        free = [await provider.complete(call) for call in MANY]
    model = LocalModel(settings(folder))
    tokens = [model._tokenizer(done.texts[0])["input_ids"] for done in free]
    end = next(token for token in tokens[0][3:] if token not in tokens[1])
    changed = shutil.copytree(folder, tmp_path / "changed")
    own = json.loads((changed / "generation_config.json").read_text())
    (changed / "generation_config.json").write_text(json.dumps(own | {"eos_token_id": [2, end]}))
    async with opened(changed) as provider:
        done = await asyncio.gather(*(provider.complete(call) for call in MANY))
    assert done[0].finish_reasons == ("stop",)
    assert 0 < (done[0].completion_tokens or 0) < 24
    assert free[0].texts[0].startswith(done[0].texts[0])
    assert done[1] == free[1]
    assert done[1].finish_reasons == ("length",)


@pytest.mark.parametrize("style", ["chat", "text"])
async def test_stop_sequences_stop_and_are_cut_off(style: str, folder: Path) -> None:
    """Where they first come, whatever the tokens are; a row without one goes on."""
    call = asking("Hello", system=None)
    async with opened(folder, format=style, max_tokens=60) as provider:
        free = await provider.complete(call)
        text = free.texts[0]
        stop = next(text[at : at + 3] for at in range(8, len(text)) if text[at : at + 3].isalpha())
        with_stop = [asking(word, system=None, stop=("never", stop, "")) for word in ("Hello", "!")]
        done, other = await asyncio.gather(*(provider.complete(each) for each in with_stop))
    assert done.texts[0] == text.split(stop, 1)[0]
    assert done.finish_reasons == ("stop",)
    assert (done.completion_tokens or 0) < (free.completion_tokens or 0)
    assert stop not in other.texts[0]


@pytest.mark.parametrize("kind", [r"\s", r"\w\s", r"[^\x00-\x7f\ufffd]"])
async def test_a_stop_sequence_may_be_white_or_of_several_bytes(kind: str, folder: Path) -> None:
    """It is taken out of texts that were drawn without it."""
    calls = [asking("Hello", sample=at) for at in range(12)]
    async with opened(folder, temperature=1.0, max_tokens=150) as provider:
        free = await asyncio.gather(*(provider.complete(call) for call in calls))
        texts = [done.texts[0] for done in free]
        found = [re.search(kind, text[5:-5]) for text in texts]
        [(at, stop), *_] = [(at, match[0]) for at, match in enumerate(found) if match]
        done = await provider.complete(replace(calls[at], stop=(stop,)))
    assert done.texts[0] == texts[at].split(stop, 1)[0]
    assert done.finish_reasons == ("stop",)
    assert (done.completion_tokens or 0) < 150


async def test_a_base_model_continues_the_text_as_it_is(tmp_path: Path) -> None:
    """Without a chat template; the tokenizer begins it."""
    plain = tiny_model(tmp_path, template="none")
    tokens = AutoTokenizer.from_pretrained(plain)("# Query\nHello?")["input_ids"]
    async with opened(plain, format="text") as provider:
        done = await provider.complete(asking("# Query\nHello?", system=None))
    assert done.prompt_tokens == len(tokens)
    assert done.texts[0]


async def test_chatting_without_a_template_is_refused(tmp_path: Path) -> None:
    """With the setting that helps."""
    plain = tiny_model(tmp_path, template="none")
    with pytest.raises(ProviderRefused, match=r"set models\.target\.format=text$"):
        async with opened(plain):
            pass


@pytest.mark.parametrize("template", ["refuses_system", "drops_system"])
async def test_m12_system_text_goes_into_the_first_user_turn(
    template: Template, tmp_path: Path
) -> None:
    """Where the template refuses a system role or drops it silently."""
    poor = tiny_model(tmp_path, template=template)
    async with opened(poor) as provider:
        with pytest.raises(TransportError, match="no system role") as refused:
            await provider.complete(asking("Hello?", system="Be kind."))
        assert refused.value.parameter == "system"
        provider.leave_out("system")
        merged = await provider.complete(asking("Hello?", system="Be kind."))
        by_hand = await provider.complete(asking("Be kind.\n\nHello?", system=None))
        without = await provider.complete(asking("Hello?", system=""))
    assert merged == by_hand
    assert merged.prompt_tokens != without.prompt_tokens


async def test_m12_a_system_role_is_used_where_there_is_one(folder: Path) -> None:
    """Then nothing is noted."""
    async with opened(folder) as provider:
        own = await provider.complete(asking("Hello?", system="Be kind."))
        merged = await provider.complete(asking("Be kind.\n\nHello?", system=None))
    assert own.texts != merged.texts


async def test_a_prompt_beyond_the_context_fails_alone(tmp_path: Path) -> None:
    """Its neighbours are answered, as long as there is room."""
    small = tiny_model(tmp_path, context=64)
    async with opened(small, max_tokens=100) as provider:
        got = await asyncio.gather(
            *(provider.complete(asking(text, system=None)) for text in ("Q" * 80, "Hi", "Q" * 40)),
            return_exceptions=True,
        )
    long, short, middle = got
    assert isinstance(long, TransportError)
    assert not long.retry
    assert "context length exceeded" in str(long)
    for done in (short, middle):
        assert not isinstance(done, BaseException)
        assert (done.prompt_tokens or 0) + (done.completion_tokens or 0) == 64
        assert done.finish_reasons == ("length",)


async def test_a_batch_that_finds_no_memory_is_halved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the smaller size is kept; nothing else changes."""
    async with opened(folder) as provider:
        free = [await provider.complete(call) for call in MANY]
        sizes = watched(monkeypatch, fits=3)
        done = await asyncio.gather(*(provider.complete(call) for call in MANY))
        assert sizes == [9, 4, 2, 2, 2, 2, 1]
        assert done == free
        await asyncio.gather(*(provider.complete(call) for call in MANY[:2]))
        assert sizes[-1] == 2


async def test_one_row_that_finds_no_memory_is_a_transport_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and no use in trying again."""
    watched(monkeypatch, fits=0)
    async with opened(folder) as provider:
        with pytest.raises(TransportError, match="does not fit into memory: CUDA") as caught:
            await provider.complete(MANY[0])
    assert not caught.value.retry
    assert "\n" not in str(caught.value)


async def test_the_event_loop_goes_on_while_a_model_writes(folder: Path) -> None:
    """Other calls, heartbeats and signals are not held up."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - before)

    async with opened(folder, max_tokens=300) as provider:
        ticking = asyncio.create_task(tick())
        began = time.monotonic()
        await asyncio.gather(*(provider.complete(call) for call in MANY))
        took = time.monotonic() - began
        ticking.cancel()
    assert max(gaps) < took / 3
    assert len(gaps) > 10


async def test_what_nobody_waits_for_any_more_is_not_written_to_its_end(folder: Path) -> None:
    """Closing waits for a token, not for an answer."""
    async with opened(folder, max_tokens=2000) as provider:
        began = time.monotonic()
        asked = asyncio.create_task(provider.complete(MANY[0]))
        await asyncio.sleep(0.1)
        asked.cancel()
        done = await provider.complete(asking("Hello", stop=tuple("abcdefghijklmnopqrstuvwxyz ")))
        assert done.texts
        still = asyncio.create_task(provider.complete(MANY[0]))
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await still
    assert time.monotonic() - began < 3


async def test_roles_share_weights_which_are_freed_in_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once, whatever else the roles ask for."""
    read: list[Any] = []
    reading = generation._pipeline

    def counting(chosen: LocalSettings) -> Any:
        pipeline = reading(chosen)
        read.append(weakref.ref(pipeline.pipeline.model))
        return pipeline

    monkeypatch.setattr(generation, "_pipeline", counting)
    async with local_models() as models:
        one = await models.provider(settings(folder), "target")
        two = await models.provider(settings(folder, temperature=1.0), "judge")
        await asyncio.gather(one.complete(MANY[0]), two.complete(MANY[0]))
        assert len(read) == 1
        assert read[0]() is not None
    assert read[0]() is None


async def test_nothing_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No warnings and no progress bars of transformers."""
    async with opened(folder, temperature=1.0) as provider:
        await asyncio.gather(*(provider.complete(call) for call in MANY))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("temperature", [None, 0.0])
async def test_null_leaves_sampling_to_the_model(
    temperature: float | None, folder: Path, tmp_path: Path
) -> None:
    """To its generation_config.json, which has no say otherwise."""
    warm = shutil.copytree(folder, tmp_path / "warm")
    own = json.loads((warm / "generation_config.json").read_text())
    own |= {"do_sample": True, "temperature": 0.9, "repetition_penalty": 1.3}
    (warm / "generation_config.json").write_text(json.dumps(own))
    async with opened(folder, temperature=0.9 if temperature is None else 0.0) as provider:
        plain = await provider.complete(MANY[0])
    async with opened(warm, temperature=temperature) as provider:
        assert await provider.complete(MANY[0]) == plain


def test_a_missing_extra_is_bad_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says how to install it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BadInput) as caught:
        check_local(settings(folder), "target")
    assert str(caught.value) == "models.target needs drpo[local]: pip install 'drpo[local]'"


def test_quantization_needs_bitsandbytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is no part of the extra, because it runs on few machines."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(BadInput, match="pip install bitsandbytes"):
        check_local(settings(folder, quantization="4bit"), "target")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("./nowhere", "no such folder"),
        ("/nowhere/at/all", "no such folder"),
        ("{empty}", "no config.json"),
        ("{pickled}", "no *.safetensors"),
    ],
)
def test_a_folder_without_a_model_is_bad_input(
    place: str, said: str, folder: Path, tmp_path: Path
) -> None:
    """Told before anything is imported."""
    chosen = place.format(empty=tmp_path, pickled=pickled(folder, tmp_path / "pickled"))
    with pytest.raises(BadInput) as caught:
        check_local(settings(chosen), "target")
    assert said in str(caught.value)
    assert str(caught.value).startswith("models.target.model=")


def pickled(folder: Path, copy: Path) -> Path:
    """The same model with its weights in the format that can hold code."""
    shutil.copytree(folder, copy)
    torch.save(LlamaForCausalLM.from_pretrained(folder).state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    return copy


def test_pickled_weights_are_never_read(folder: Path, tmp_path: Path) -> None:
    """Not from the hub either, where no folder can be looked into beforehand."""
    with pytest.raises(Unloadable, match="safetensors") as caught:
        LocalModel(settings(pickled(folder, tmp_path / "pickled")))
    assert "\n" not in str(caught.value)


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    """Unless the user says so."""
    strange = shutil.copytree(folder, tmp_path / "strange")
    config = json.loads((strange / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "mine.Config"}}
    (strange / "config.json").write_text(json.dumps(config))
    (strange / "mine.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    with pytest.raises(Unloadable, match="trust_remote_code"):
        LocalModel(settings(strange))
    assert not (tmp_path / "was run").exists()


def test_damaged_weights_are_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    """With the model's name."""
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(Unloadable, match="broken' cannot be read: ") as caught:
        LocalModel(settings(broken))
    assert "\n" not in str(caught.value)


async def test_a_name_that_no_hub_has_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves no run behind."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = ["provider@models.target=huggingface", "models.target.model=nobody/nothing"]
    with pytest.raises(BadInput, match="target: model 'nobody/nothing' cannot be read"):
        await drpo.optimize(*words, runs=tmp_path)
    assert not list(tmp_path.iterdir())


async def test_a_target_has_to_be_named() -> None:
    """By a folder or a name on the hub."""
    with pytest.raises(BadInput, match=r"^models\.target\.model: name a folder"):
        await drpo.optimize("models=local")


@pytest.mark.parametrize("style", ["chat", "text"])
async def test_a_search_with_a_local_target(style: str, folder: Path, tmp_path: Path) -> None:
    """`models=local`, with the other roles on a served sandbox."""
    sandbox = {"provider": "sandbox", "model": "sandbox", "world": "noisy", "profile": "terse"}
    app = application(SandboxSettings.model_validate(sandbox | {"seed": 0}))
    async with TestServer(app) as server:
        words = [
            "models=local",
            f"models.target.model={folder}",
            f"models.target.format={style}",
            "models.target.max_tokens=16",
            "models.target.accept_truncated=true",
            f"openai.base_url={server.make_url('/v1')}",
            "openai.model=sandbox",
            "data=sandbox",
            "search=greedy",
            "search.levels=2",
        ]
        result = await drpo.optimize(*words, runs=tmp_path)
    assert result.summary["status"] == "done"
    assert result.summary["calls"]["target"]["new"] > 0
    assert result.path_value is not None


DRAWING = Drawing(format="chat", temperature=0.0, top_p=None, max_tokens=1, stop=())


async def test_a_batch_grows_while_another_is_answered() -> None:
    """So calls that trickle in are not answered one by one; none is lost, whoever gives up."""
    sizes: list[int] = []

    def answer(rows: Sequence[Row], wanted: Callable[[], bool]) -> list[Written]:
        sizes.append(len(rows))
        time.sleep(0.05)
        return [
            Written(text=str(row.seed), finish_reason="stop", prompt_tokens=1, completion_tokens=1)
            for row in rows
        ]

    worker = Worker()
    batcher = Batcher(answer, worker, size=64, wait_s=0.005)
    async with batcher.running():
        asked = []
        for seed in range(30):
            row = Row(messages=(), seed=seed, drawing=DRAWING)
            asked.append(asyncio.create_task(batcher.ask(row)))
            await asyncio.sleep(0.002)
        asked[29].cancel()
        got = await asyncio.gather(*asked, return_exceptions=True)
    worker.close()
    texts = [each.text for each in got if isinstance(each, Written)]
    assert texts == [str(seed) for seed in range(29)]
    assert len(sizes) < 6


async def test_a_fault_of_ours_reaches_everybody_who_waits() -> None:
    """As it is; the next batch is answered."""
    faults: list[Exception] = [KeyError("ours"), OutOfMemory("full")]

    def answer(rows: Sequence[Row], wanted: Callable[[], bool]) -> list[Written]:
        raise faults.pop(0)

    worker = Worker()
    batcher = Batcher(answer, worker, size=64, wait_s=0.0)
    row = Row(messages=(), seed=0, drawing=DRAWING)
    async with batcher.running():
        got = await asyncio.gather(batcher.ask(row), batcher.ask(row), return_exceptions=True)
        assert [type(each) for each in got] == [KeyError, KeyError]
        with pytest.raises(TransportError):
            await batcher.ask(row)
    worker.close()
