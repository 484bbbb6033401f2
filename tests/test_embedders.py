"""What tells how alike two texts are: by words, and by the vectors of models and servers."""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai_server import OpenAIServer, vector_of
from tiny_model import tiny_sentence_model

from drpo.checkpoints.store import RunStore
from drpo.conf.schema import EmbeddingServerSettings, SentenceSettings
from drpo.graph.errors import BadInput, ProviderRefused, ProviderStopped, RunFailed
from drpo.models import provider as provider_module
from drpo.models.embedders import server as server_module
from drpo.models.embedders.cosine import CosineLikeness
from drpo.models.embedders.lexical import LexicalLikeness, tokens_of
from drpo.models.embedders.sentences import SentenceEmbedder, check_sentences
from drpo.models.embedders.server import EmbeddingServer

KEY = "sk-secret-0123456789"


class Counting:
    """Makes vectors as the local server does, and remembers what it was asked."""

    identity = "counting"

    def __init__(self, *, hold: asyncio.Event | None = None) -> None:
        self.asked: list[list[str]] = []
        self._hold = hold

    async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Once it is no longer held."""
        self.asked.append(list(texts))
        if self._hold is not None:
            await self._hold.wait()
        return [vector_of(text) for text in texts]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(provider_module, "FIRST_BACKOFF_S", 0.0001)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a sentence-transformers model of random weights."""
    return tiny_sentence_model(tmp_path_factory.mktemp("sentences"))


def on(server: OpenAIServer, **changes: Any) -> EmbeddingServer:
    values = {"kind": "openai", "model": "m", "base_url": server.base_url}
    return EmbeddingServer(EmbeddingServerSettings.model_validate(values | changes))


def local(model: Path | str, **changes: Any) -> SentenceSettings:
    return SentenceSettings.model_validate({"kind": "sentences", "model": str(model)} | changes)


async def likest(texts: Sequence[str], asked: str) -> int:
    alike = await LexicalLikeness(texts).to(asked)
    return max(range(len(texts)), key=lambda at: alike[at])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("How do I cook the rice?", ["cook", "rice"]),
        ("Who are you?", ["who", "are", "you"]),
        ("Straße, CAFÉ\u0301; x²", ["strasse", "café\u0301", "x2"]),
        ("हिन्दी में लिखो", ["हिन्दी", "में", "लिखो"]),
        ("iPhone手机坏了", ["iphone", "手机", "机坏", "坏了"]),
        ("?!", []),
    ],
    ids=["english", "only small words", "latin", "hindi", "chinese", "none"],
)
def test_words_are_found_in_every_script(text: str, tokens: list[str]) -> None:
    """Small words count only where there are no others; Chinese goes by pairs of characters."""
    assert tokens_of(text) == tokens


async def test_shared_words_make_texts_alike() -> None:
    """The rarer a word is, the more it counts."""
    texts = ["bake bread in an oven", "cook rice in a pot", "cook pasta in a pot"]
    assert await likest(texts, "Cooking? I want to cook rice.") == 1
    assert await likest(texts, "an oven") == 0


async def test_texts_without_a_common_word_are_all_equally_alike() -> None:
    """Also where none of them has any word."""
    assert await LexicalLikeness(["one", "two"]).to("three") == [0.0, 0.0]
    assert await LexicalLikeness(["?", "!"]).to("three") == [0.0, 0.0]


async def test_bm25_says_nothing(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No progress bar, and no line of a log."""
    with caplog.at_level(logging.DEBUG):
        await likest(["one two", "three"], "two")
    said = capsys.readouterr()
    assert not said.out + said.err
    assert not caplog.records


async def test_a_cosine_is_that_of_the_vectors() -> None:
    """1 for the same words, 0 for none in common, whatever the length; twins are alike."""
    alike = CosineLikeness(["a b", "c", "a b a b", "a b"], Counting())
    assert await alike.to("b a") == [1.0, 0.0, 1.0, 1.0]


async def test_all_vectors_come_by_one_question_and_each_text_once() -> None:
    """Those of the texts together, that of each asked one alone."""
    embedder = Counting()
    alike = CosineLikeness(["one", "two", "one"], embedder)
    await alike.prepare()
    for asked in ("three", "three", "two"):
        await alike.to(asked)
    assert embedder.asked == [["one", "two"], ["three"]]


async def test_the_same_text_at_the_same_time_is_computed_once() -> None:
    """One question for twenty who ask at once."""
    hold = asyncio.Event()
    embedder = Counting(hold=hold)
    alike = CosineLikeness(["one"], embedder)
    asking = [asyncio.create_task(alike.to("two")) for _ in range(20)]
    asyncio.get_running_loop().call_soon(hold.set)
    assert len({tuple(await each) for each in asking}) == 1
    assert embedder.asked == [["one"], ["two"]]


async def test_who_is_cancelled_takes_nobody_along() -> None:
    """The others still get what they wait for."""
    hold = asyncio.Event()
    alike = CosineLikeness(["one"], Counting(hold=hold))
    gone, stays = (asyncio.create_task(alike.to("one")) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    hold.set()
    assert await stays == [1.0]


async def test_an_error_reaches_everybody_and_is_not_kept() -> None:
    """Who asks later asks anew."""

    class Failing(Counting):
        async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
            made = await super().vectors(texts)
            if len(self.asked) == 1:
                raise ProviderStopped("away")
            return made

    alike = CosineLikeness(["one"], Failing())
    both = await asyncio.gather(alike.to("one"), alike.to("one"), return_exceptions=True)
    assert [type(each) for each in both] == [ProviderStopped, ProviderStopped]
    assert await alike.to("one") == [1.0]


def test_several_event_loops_may_ask() -> None:
    """As an aligned model does that is invoked outside of one."""
    embedder = Counting()
    alike = CosineLikeness(["one"], embedder)
    assert asyncio.run(alike.to("two")) == asyncio.run(alike.to("two"))
    assert embedder.asked == [["one"], ["two"]]


async def test_vectors_are_kept_in_the_runs_file(store: RunStore) -> None:
    """Whoever opens it later asks nobody; another embedder has its own."""
    first, second = Counting(), Counting()
    told = await CosineLikeness(["one", "two"], first, store).to("one two")
    assert await CosineLikeness(["one", "two"], second, store).to("one two") == told
    assert not second.asked
    second.identity = "another"
    await CosineLikeness(["one", "two"], second, store).to("one two")
    assert second.asked == first.asked
    [(kept, length)] = await store.read(
        "select count(*), min(length(vector)) from embedding where embedder = 'counting'"
    )
    assert (kept, length) == (3, 4 * len(vector_of("")))


@pytest.mark.parametrize("made", [[], [math.nan], [math.inf, 1.0]], ids=str)
async def test_what_is_no_vector_stops_the_run(made: list[float]) -> None:
    """And is not kept."""

    class Broken(Counting):
        async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
            return [made for _ in texts]

    with pytest.raises(RunFailed, match="embedder"):
        await CosineLikeness(["one"], Broken()).to("two")


async def test_a_server_that_changed_its_model_is_found_out() -> None:
    """Vectors of another length cannot be compared."""

    class Changing(Counting):
        async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
            await super().vectors(texts)
            return [[1.0] * len(self.asked) for _ in texts]

    with pytest.raises(RunFailed, match="1 before"):
        await CosineLikeness(["one"], Changing()).to("two")


async def test_a_damaged_vector_stops_the_run() -> None:
    """With the way to the doctor."""

    class Damaged:
        async def vectors(self, embedder: str, texts: Sequence[str]) -> Mapping[str, bytes]:
            return dict.fromkeys(texts, b"12345")

        async def keep_vectors(self, embedder: str, vectors: Mapping[str, bytes]) -> None: ...

    with pytest.raises(RunFailed, match="doctor"):
        await CosineLikeness(["one"], Counting(), Damaged()).to("two")


async def test_a_server_is_sent_texts(server: OpenAIServer) -> None:
    """All in one request, none of them as numbers of tokens."""
    made = await on(server).vectors(["one two", "three\nfour"])
    [seen] = server.requests
    assert seen.body is not None
    assert seen.body["input"] == ["one two", "three\nfour"]
    assert seen.body["model"] == "m"
    assert made == [vector_of("one two"), vector_of("three\nfour")]


async def test_many_texts_are_few_requests(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their number and by their length."""
    monkeypatch.setattr(server_module, "BATCH_CHARACTERS", 10_000)
    texts = [*(f"word{number}" for number in range(300)), "x" * 9_999, "y"]
    assert await on(server).vectors(texts) == [vector_of(text) for text in texts]
    sizes = [len(seen.body["input"]) for seen in server.requests if seen.body]
    assert sizes == [256, 44, 2]


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"status": 500},
        {"kind": "html"},
        {"kind": "empty"},
        {"kind": "error200"},
        {"kind": "reset"},
        {"kind": "hang"},
    ],
    ids=str,
)
async def test_a_passing_fault_is_tried_again(fault: dict[str, Any], server: OpenAIServer) -> None:
    """Without a word."""
    server.fail_next(**fault)
    made = await on(server, timeout_s=0.5).vectors(["one"])
    assert made == [vector_of("one")]


@pytest.mark.parametrize(
    ("fault", "stops"),
    [
        ({"status": 500}, ProviderStopped),
        ({"status": 429, "headers": {"Retry-After": "3600"}}, ProviderStopped),
        ({"status": 429, "code": "insufficient_quota"}, ProviderStopped),
        ({"status": 401}, ProviderRefused),
        ({"status": 404, "code": "model_not_found"}, ProviderRefused),
    ],
    ids=str,
)
async def test_a_lasting_fault_stops_the_run(
    fault: dict[str, Any], stops: type[ProviderStopped], server: OpenAIServer
) -> None:
    """In one line without the key, after a bounded number of tries."""
    server.fail_next(times=50, message=f"bad key {KEY}", **fault)
    with pytest.raises(ProviderStopped) as caught:
        await on(server, attempts=3).vectors(["one"])
    assert type(caught.value) is stops
    assert str(caught.value).startswith("retrieval.embedder: ")
    assert KEY not in str(caught.value)
    assert len(server.requests) == (3 if fault["status"] == 500 else 1)


async def test_a_text_that_is_too_long_is_cut(server: OpenAIServer) -> None:
    """Its beginning says what it is about."""
    server.fail_next(status=400, code="context_length_exceeded", times=2)
    await on(server).vectors(["x" * 1_000, "short"])
    assert [seen.body["input"] for seen in server.requests if seen.body] == [
        ["x" * length, "short"] for length in (1_000, 500, 250)
    ]


async def test_a_missing_key_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which names the variable."""
    monkeypatch.delenv("OPENAI_API_KEY")
    settings = EmbeddingServerSettings.model_validate({"kind": "openai", "model": "m"})
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        await EmbeddingServer(settings).vectors(["one"])


async def test_a_model_in_this_process_makes_vectors(folder: Path) -> None:
    """The same for the same text, also in other company."""
    embedder = SentenceEmbedder(local(folder))
    [alone] = await embedder.vectors(["How do I cook rice?"])
    among = await embedder.vectors(["a much longer text than the other", "How do I cook rice?"])
    assert alone == pytest.approx(among[1], abs=1e-5)
    assert len(alone) == 32


async def test_a_model_works_on_while_others_do(folder: Path) -> None:
    """The event loop goes on meanwhile."""
    embedder = SentenceEmbedder(local(folder))
    asked = asyncio.create_task(embedder.vectors(["one"]))
    turns = 0
    while not asked.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_a_model_that_cannot_be_read_is_refused(folder: Path, tmp_path: Path) -> None:
    """In one line."""
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ProviderRefused, match="cannot be read") as caught:
        await SentenceEmbedder(local(broken)).vectors(["one"])
    assert "\n" not in str(caught.value)


async def test_code_of_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    """A module of its own is refused (DESIGN, rule 16)."""
    hostile = tmp_path / "hostile"
    shutil.copytree(folder, hostile)
    proof = tmp_path / "proof"
    (hostile / "evil.py").write_text(f"open({str(proof)!r}, 'w').close()\n")
    modules = (hostile / "modules.json").read_text()
    kinds = modules.split('"type": "')
    kinds[1] = "evil.Evil" + kinds[1][kinds[1].index('"') :]
    (hostile / "modules.json").write_text('"type": "'.join(kinds))
    with pytest.raises(ProviderRefused, match="cannot be read"):
        await SentenceEmbedder(local(hostile)).vectors(["one"])
    assert not proof.exists()


def test_a_folder_without_a_model_is_bad_input(folder: Path, tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(BadInput, match=r"no modules\.json"):
        check_sentences(local(tmp_path))
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(BadInput, match="safetensors"):
        check_sentences(local(pickled))
    with pytest.raises(BadInput, match="no such folder"):
        check_sentences(local(tmp_path / "nowhere"))
    check_sentences(local("sentence-transformers/all-mpnet-base-v2"))


def test_without_the_extra_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that brings it."""
    monkeypatch.setattr("drpo.models.embedders.sentences.EXTRA", ("no_such_package",))
    with pytest.raises(BadInput, match=r"pip install 'drpo\[sentences\]'"):
        check_sentences(local(folder))
