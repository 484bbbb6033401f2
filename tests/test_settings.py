"""The configuration: what composes, what is refused, and in which words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from drpo.conf.schema import Settings
from drpo.graph.errors import BadInput
from drpo.graph.values import ROLES
from drpo.settings import (
    _open_settings,
    check_sweep,
    compose_settings,
    opened,
    resumed_settings,
)


def test_one_role_may_have_another_provider() -> None:
    """The other three stay."""
    models = compose_settings(["provider@models.judge=openai"]).models
    assert [getattr(models, role).provider for role in ROLES].count("sandbox") == 3
    assert models.judge.provider == "openai"


def test_the_rewriter_keeps_its_sampling_with_another_provider() -> None:
    """Temperature and top_p belong to the role."""
    rewriter = compose_settings(["provider@models.rewriter=openai"]).models.rewriter
    assert (rewriter.temperature, rewriter.top_p) == (0.2, 0.95)


def test_the_papers_preset_is_the_papers() -> None:
    """W 2, M 3, 20 levels, +10, no guard, an unreadable verdict is 0."""
    search = compose_settings(["search=paper"]).search
    assert (search.width, search.rewrites, search.levels, search.max_extension) == (2, 3, 20, 10)
    assert (search.guards, search.unscored, search.recycle_queries) == (False, "zero", False)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("serch=paper", "did you mean search"),
        ("search=papr", "did you mean paper"),
        ("search.levls=3", "did you mean search.levels"),
        ("+search.levls=3", "did you mean search.levels"),
        ("telemetry.headers.a=b search.levls=3", "'search.levls' is no setting; did you mean"),
        ("models=openai models.judge.base_ur=x", "did you mean models.judge.base_url"),
        ("telemetry.headrs.a=b", "'telemetry.headrs.a' is no setting; did you mean telemetry.h"),
        ("telemetry.headers={a:{b:c}}", "telemetry.headers.a: Input should be a valid string"),
        ("models.judge.options.a=b", "'models.judge.options' is no setting"),
        ("~search.levls", "did you mean search.levels"),
        ("openai.headers=x", "^openai.headers: "),
        ("search.prompt_tokens=99", "did you mean search.max_prompt_tokens"),
        ("search.levels=0", "search.levels: .*greater than or equal to 1"),
        ("search.skip_above=nan", "search.skip_above"),
        ("search.unscored=nothing", "'leave_out' or 'zero'"),
        ("search=greedy search.width=2", "width is 1"),
        ("search=monte_carlo search.width=2", "width is 1"),
        ("search=best_of_n search.width=2", "width is 1"),
        ("search=greedy search.strategy=examples", "one query and skips nothing below 5"),
        (
            "search=greedy search.strategy=examples search.queries_per_level=1 search.skip_above=5",
            "allowed are beam, greedy, monte_carlo, best_of_n",
        ),
        ("rewards=static rewards.fixed=[]", "at least one aspect"),
        ("rewards=static rewards.fixed=[Wit]", "'Wit', which is not in pool"),
        ("rewards.fewest=9", "fewest"),
        ("models.judge.latency_ms=-1", "models.judge.latency_ms"),
        ("models.judge.base_url=http://x", "models.judge.base_url"),
        ("provider@models.judge=opnai", "did you mean openai"),
        ("seed=-1", "seed"),
        ("root=", "root"),
        ("root=@nix.md", "root=@nix.md: No such file"),
        ('root="[[Be_kind."', r"root: prompt 'system': every \[\[ needs one \]\]"),
        ('root="Be_kind.]]"', "every"),
        ('root="[[Be_[[very]]_kind.]]"', "none inside"),
        ('root="]]Be_kind.[["', "every"),
        ('root="Be_kind._[[]]"', "nothing between"),
        ('root={system:a,planner:"[[b"}', "root: prompt 'planner': every"),
        ("task.locked=[Be_rude.]", "'Be_rude.' is no sentence of the root prompt"),
        ("a b", "key=value"),
        ("=3", "."),
        ("seed=${nix}", "nix"),
        ("~seed", "seed"),
    ],
)
def test_a_mistake_is_one_line_with_what_is_allowed(override: str, says: str) -> None:
    """The nearest names that there are."""
    words = [override] if override == "a b" else override.split(" ")
    with pytest.raises(BadInput, match=says) as caught:
        compose_settings(words)
    assert "\n" not in str(caught.value)


LANGCHAIN = ("provider@models.judge=langchain", "models.judge._target_=a.B", "models.judge.model=m")
OPEN = [
    ((), "root", "system", "Hi"),
    ((), "rewards.aspects", "Wit", "It makes one smile."),
    ((), "openai.headers", "X-Team", "blue"),
    ((), "telemetry.headers", "authorization", "env:COLLECTOR_KEY"),
    (("models=openai",), "models.{role}.headers", "X-Team", "blue"),
    (("embedder=openai",), "retrieval.embedder.headers", "X-Team", "blue"),
    ((), "models.{role}.dials", "noise", 0.5),
    (LANGCHAIN, "models.judge.options", "region", "eu"),
]
"""Choices, a setting whose names are the user's own, one of them and a value."""


@pytest.mark.parametrize(("chosen", "setting", "name", "value"), OPEN)
def test_a_name_of_ones_own_needs_no_plus(
    chosen: tuple[str, ...], setting: str, name: str, value: object
) -> None:
    """Whether it is given alone or within braces."""
    place = setting.format(role="judge")
    for word in (f"{place}.{name}={value}", f"{place}={{{name}: {value}}}"):
        values = compose_settings([*chosen, word]).model_dump(by_alias=True)
        assert reduce(lambda there, part: there[part], place.split("."), values)[name] == value


def test_every_setting_with_names_of_ones_own_is_among_them() -> None:
    """The schema has no other one."""
    tried = {
        setting.replace("judge", "{role}").format(role=role)
        for _, setting, _, _ in OPEN
        for role in ROLES
    }
    assert tried == _open_settings()


def test_names_of_ones_own_are_added_to_those_that_are_there() -> None:
    """A plus does no harm."""
    words = ["telemetry.headers.a=b", "telemetry.headers={c: d}", "+telemetry.headers.e=f"]
    assert compose_settings(words).telemetry.headers == {"a": "b", "c": "d", "e": "f"}


def test_other_words_are_left_as_they_are() -> None:
    """What closed sections have, choices, deletions, options."""
    words = ["search.levels=3", "search=paper", "~seed", "provider@models.judge=openai", "--cfg"]
    assert opened(words) == words


@pytest.mark.parametrize(
    "given", ["s3cret", "12345", "[s3cret]", '"s3cret', "{a: s3cret}", "env:A,s3cret"]
)
@pytest.mark.parametrize(
    "word", ["telemetry.headers.authorization={}", "openai.headers={{X-Api-Key: {}}}"]
)
def test_i7_a_header_that_is_refused_is_not_said(word: str, given: str) -> None:
    """It may be a key; nor does a sweep over it get so far that Hydra notes it down."""
    with pytest.raises(BadInput) as caught:
        check_sweep([word.format(given)])
    assert not [each for each in ("s3cret", "12345") if each in str(caught.value)]


def test_each_value_of_a_sweep_is_looked_at() -> None:
    """Before the first search is paid for."""
    check_sweep(["seed=1,2", "search=paper,greedy", "root=choice('a b','c,d')"])
    with pytest.raises(BadInput, match="did you mean greedy"):
        check_sweep(["seed=1,2", "search=paper,greed"])


def test_a_root_prompt_comes_from_a_file(tmp_path: Path) -> None:
    """As it stands there, interpolation marks and all."""
    path = tmp_path / "mine.md"
    path.write_text("Be {kind} to ${oc.env:HOME}.\n", "utf-8")
    for word in (f"root=@{path}", f"root.system=@{path}"):
        assert compose_settings([word]).root == {"system": "Be {kind} to ${oc.env:HOME}."}


MARKED = "You help.\n[[Never mention  prices.]] Be kind. [[ Be brief. ]]"


def test_a_marked_sentence_is_locked_and_loses_its_marks(tmp_path: Path) -> None:
    """Whether the root is a text, a file or one prompt of several."""
    path = tmp_path / "mine.md"
    path.write_text(MARKED)
    given = [f"root=@{path}", f'root="{MARKED}"', f'root={{system: "{MARKED}", planner: plan}}']
    for override in given:
        settings = compose_settings([override])
        assert settings.task.locked == ("Never mention  prices.", "Be brief.")
        assert settings.root["system"] == "You help.\nNever mention  prices. Be kind.  Be brief. "


def test_marked_and_configured_sentences_are_locked_once() -> None:
    """The configured ones first."""
    words = ['root="[[Be kind.]] Be brief."', 'task.locked=["Be brief.","Be kind."]']
    assert compose_settings(words).task.locked == ("Be brief.", "Be kind.")


def test_locked_sentences_are_the_same_when_settings_are_read_again() -> None:
    """As a resumed run does."""
    settings = compose_settings(['root="[[Be kind.]] Be brief."'])
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_several_prompts_may_be_given() -> None:
    """By name."""
    root = compose_settings(["root={system: hello, planner: plan}"]).root
    assert root == {"system": "hello", "planner": "plan"}


def test_settings_compose_inside_another_hydra_application() -> None:
    """And leave it as it was."""
    with hydra.initialize_config_module("drpo.conf", version_base="1.3"):
        assert compose_settings(["seed=3"]).seed == 3
        assert hydra.compose("config").seed == 0


@pytest.mark.parametrize("override", ["budget.calls=9", "concurrency=2", "budget.calls=null"])
def test_budget_and_concurrency_may_change_on_resume(override: str) -> None:
    """Nothing else of the settings does."""
    before = compose_settings([])
    after = resumed_settings(before, [override])
    assert after.model_copy(update={"budget": before.budget, "concurrency": 16}) == before


@pytest.mark.parametrize(
    "override", ["seed=1", "search.levels=3", "concurrencyx=3", "search=paper", "budget.nix=1", "x"]
)
def test_anything_else_is_refused_on_resume(override: str) -> None:
    """It would be another search."""
    with pytest.raises(BadInput):
        resumed_settings(compose_settings([]), [override])


def test_settings_compose_in_threads_at_once() -> None:
    """Hydra's one state per process does not mix them up, and is left empty."""
    with ThreadPoolExecutor(4) as threads:
        seeds = threads.map(lambda seed: compose_settings([f"seed={seed}"]).seed, range(12))
        assert list(seeds) == list(range(12))
    assert not GlobalHydra.instance().is_initialized()
