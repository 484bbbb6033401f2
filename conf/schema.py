"""What every value of the configuration may be.

Hydra composes the YAML files beside this one; these pydantic types then check the result, because
Hydra's own structured configs know no literals and `+key=` goes around them. Nothing here reads
files.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from drpo.conf.locked import missing, unmarked, with_locked

WorldName = Annotated[
    Literal["noisy", "easy", "deceptive", "shifted", "null"],
    BeforeValidator(lambda given: "null" if given is None else given),
]
"""YAML takes the bare word `null` for nothing."""
ProfileName = Literal["rambling", "terse", "robotic", "reckless"]


def _is_address(parts: SplitResult) -> bool:
    try:
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return named and parts.scheme in ("http", "https")


def _without_secrets(address: str | None) -> str | None:
    parts = urlsplit(address or "")
    if address is not None and not _is_address(parts):
        raise ValueError("an address is like http://127.0.0.1:8000/v1 or https://host.example/v1")
    if parts.username or parts.password or parts.query:
        raise ValueError(
            "an address with a user, password or query would be stored as it is: "
            "give the key in the environment"
        )
    return address


Address = Annotated[str | None, AfterValidator(_without_secrets)]
_SECRET_OPTION = re.compile(r"api_?key|token$|secret|password|credential", re.IGNORECASE)


def _open(options: dict[str, Any]) -> dict[str, Any]:
    """Without keys."""
    for name in options:
        if _SECRET_OPTION.search(name):
            raise ValueError(
                f"option {name!r} would be stored as it is: give the key in the environment"
            )
    return options


ENVIRONMENT = "env"
"""In place of a collector's address: the one in the environment."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|credential", re.IGNORECASE)
FROM_ENVIRONMENT = "env:"
"""How a header's value begins that is the name of an environment variable."""
OF_HEADERS = "DRPO_HEADER_"
"""So begin the names of variables that hold nothing but the value of a header."""


def _plain(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if _SECRET_HEADER.search(name) and not value.startswith(FROM_ENVIRONMENT):
            raise ValueError(
                f"header {name!r} would be stored as it is: put its value into an environment "
                f"variable and write {name}: env:NAME"
            )
    return headers


Headers = Annotated[
    dict[HeaderName, str], BeforeValidator(lambda given: given or {}), AfterValidator(_plain)
]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Of an environment variable; a key in its place is refused."""
SECRETIVE = ("base_url", "otlp", "api_key_env", "headers", "options")
"""Settings in which somebody may have put a secret: what they are is never said."""


LONGEST_TEXT = 10_000_000
"""Characters of a setting."""


class Strict(BaseModel):
    """A section of the configuration: no unknown keys, no changes after it is read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        # With a limit pydantic also refuses halves of characters, which cannot be stored.
        str_max_length=LONGEST_TEXT,
    )


def _as_prompts(value: object) -> object:
    return {"system": value} if isinstance(value, str) else value


class TaskSettings(Strict):
    """What the assistant is for, in the user's words; rewarder, judge and rewriter read it."""

    kind: Literal["prompt", "examples"] = "prompt"
    """What is optimized: the prompt, or the answers of in-context examples."""
    description: str = ""
    """What it is for; empty for a general one."""
    locked: tuple[str, ...] = ()
    """Sentences of the root prompt that every rewrite has to keep word for word; those that the
    root marks by `[[...]]` are among them."""


class LexicalSettings(Strict):
    """Likeness of words, by BM25: needs no model."""

    kind: Literal["lexical"]


class SentenceSettings(Strict):
    """A sentence-transformers model in this process; needs `pip install 'drpo[sentences]'`."""

    kind: Literal["sentences"]
    model: str = Field(min_length=1)
    """A folder with a model, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null for the newest."""
    device: str | None = None
    """`cpu`, `cuda:0`; null for a GPU where there is one."""


class EmbeddingServerSettings(Strict):
    """A server that speaks the OpenAI protocol."""

    kind: Literal["openai"]
    model: str = Field(min_length=1)
    """Name of the model, as the server knows it."""
    base_url: Address = None
    """Address of the server up to `/v1`; null for api.openai.com."""
    api_key_env: VariableName = "OPENAI_API_KEY"
    """Name of the environment variable with the key; the key itself is never stored."""
    headers: Headers = {}
    """Sent with every request; a value `env:NAME` is read from the environment variable NAME."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """Of one attempt."""
    attempts: int = Field(default=5, ge=1, le=20)
    """Tries of one request while the server is busy, broken or away."""


AnyEmbedderSettings = Annotated[
    LexicalSettings | SentenceSettings | EmbeddingServerSettings, Field(discriminator="kind")
]


class RetrievalSettings(Strict):
    """Which in-context examples the target is shown before a query."""

    path: str | None = None
    """Where the examples are: a .jsonl file of `query` and `answer`, an artifact (.json) or another
    run's file (.sqlite); null for none, or for those that `drpo align` optimizes."""
    k: int = Field(default=2, ge=0, le=100)
    """How many, those most like the query; 0 for none."""
    order: Literal["best_last", "best_first"] = "best_last"
    """Whether the example most like the query stands next to it, or first of all."""
    max_tokens: int | None = Field(default=2_000, ge=1)
    """Of all examples together, estimated as characters / 4; those least like the query give way.
    null for no limit."""
    embedder: AnyEmbedderSettings = LexicalSettings(kind="lexical")
    """What tells how alike two queries are."""


class ExamplesSettings(Strict):
    """How examples are optimized: `task=examples`, or the first stage of `drpo align`."""

    path: str | None = Field(default=None, min_length=1)
    """Seed queries, as `data.path` has them, e.g. builtin:seeds; null draws them from the queries
    to search with. Where one has an `answer`, its search begins there; else the target is asked."""
    limit: int | None = Field(default=16, ge=0)
    """How many seeds to draw, by the run's seed, at most half of the queries to search with; null
    for as many as there are, 0 for no examples."""
    rounds: int = Field(default=5, ge=1, le=100)
    """Most rewrites of one answer; it ends earlier where every score is 5."""


class ValidationSettings(Strict):
    """Whether the gain is real: `drpo align` tries it on queries that the search never saw."""

    select: float = Field(default=0.2, gt=0, lt=1)
    """Share of the queries by which one challenger is chosen."""
    confirm: float = Field(default=0.4, gt=0, lt=1)
    """Share of the queries on which its gain over the root is tested."""
    challengers: int = Field(default=3, ge=1, le=64)
    """How many prompts of the search are compared on the queries of `select`."""
    samples: int = Field(default=1, ge=1, le=64)
    """How often each arm answers each query; averaged before anything else."""
    min_gain: float = Field(default=0.1, ge=0, le=4)
    """Least gain over the root, in points of the scale 1-5, for which a prompt is replaced."""
    spread: float = Field(default=0.8, gt=0, le=4)
    """Standard deviation over queries of the difference between two prompts' rewards, by which the
    smallest gain that can be shown is estimated before anything is paid for."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.select + self.confirm >= 1:
            raise ValueError(
                f"select ({self.select:g}) and confirm ({self.confirm:g}) leave no queries to "
                "search with: together they have to stay below 1"
            )
        return self


class WorldSettings(Strict):
    """The simulated world that every role on the sandbox lives in."""

    world: WorldName
    """Which of the simulated worlds; docs/sandbox.md tells them apart."""
    profile: ProfileName
    """Which simulated model is aligned."""
    seed: int = Field(ge=0, lt=2**63)
    """Of every draw in the world; the run's own seed by default."""


class ServerSettings(Strict):
    """The OpenAI-compatible server of every role that has none of its own."""

    model: str = Field(default="gpt-4o-mini", min_length=1)
    """Name of the model, as the server knows it."""
    base_url: Address = None
    """Address of the server up to `/v1`; null for api.openai.com."""
    api_key_env: VariableName = "OPENAI_API_KEY"
    """Name of the environment variable with the key; the key itself is never stored."""
    headers: Headers = {}
    """Sent with every request; a value `env:NAME` is read from the environment variable NAME."""


class BudgetSettings(Strict):
    """Where a run stops by itself; it can be resumed with a larger limit."""

    calls: int | None = Field(default=None, ge=1)
    """Model calls of all roles together; null for no limit."""
    tokens: int | None = Field(default=None, ge=1)
    """Prompt and completion tokens of all roles together; null for no limit."""
    cost_usd: float | None = Field(default=None, gt=0)
    """US dollars of all roles together; null for no limit. Every model needs a price then."""
    seconds: float | None = Field(default=None, gt=0)
    """Time that the sessions of the run may take together; null for no limit."""
    failures: float | None = Field(default=0.5, ge=0, le=1)
    """Share of a level's evaluations that may fail before the run pauses, or of its rewrites the
    second time in a row; null for all. Fewer than three pause it only where no evaluation at all
    succeeded."""


class ModelSettings(Strict):
    """The model behind one role."""

    model: str = Field(min_length=1)
    """Name of the model, as the provider knows it."""
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """Of its draws; null leaves it to the server."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Share of the likeliest tokens it draws from; null leaves it to the server."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of one answer; null leaves it to the server."""
    json_schema: bool = True
    """Ask the provider to enforce the JSON schema of structured answers."""
    multiple: bool = True
    """Whether one request may ask for several completions (`n`)."""
    format: Literal["chat", "text"] = "chat"
    """`text` is for base models: one text with stop sequences instead of turns."""
    asks: int = Field(default=2, ge=1, le=10)
    """How often a question is asked until its answer can be used."""
    accept_truncated: bool = False
    """Judge an answer of the target that was cut off at `max_tokens` as it is; otherwise it is
    asked for once more with twice the room, and then counts as a failure."""


class SandboxSettings(ModelSettings):
    """The simulated world: no model, no network, no cost."""

    provider: Literal["sandbox"]
    world: WorldName
    """Of this role."""
    profile: ProfileName
    """Of this role."""
    seed: int = Field(ge=0, lt=2**63)
    """Of every draw in the world."""
    dials: Annotated[dict[str, float], BeforeValidator(lambda given: given or {})] = {}
    """Of this role, in place of the world's, which docs/sandbox.md lists."""
    asks: int = Field(default=1, ge=1, le=10)
    """How often a question is asked until its answer can be used; replies that cannot are a part of
    the world, which was measured with them."""
    latency_ms: float = Field(default=0.0, ge=0, le=60_000)
    """How long each call takes."""


class RemoteSettings(ModelSettings):
    """A model on a server: what its limits and its price are."""

    concurrency: int | None = Field(default=None, ge=1, le=4_096)
    """Calls of this role in flight; null for as many as the run allows."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Of all roles on the same server, whose least number holds; null for no limit."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """As `requests_per_minute`, of prompt and completion tokens."""
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    """Of one attempt."""
    attempts: int = Field(default=5, ge=1, le=20)
    """How often one call is tried while the server is busy, broken or away."""
    patience_s: float = Field(default=60.0, ge=0, le=86_400)
    """The longest that a server may ask to wait; beyond it the run pauses."""
    deadline_s: float = Field(default=1_800.0, gt=0, le=86_400)
    """Of one call, over all its attempts and waits."""
    price_in: float | None = Field(default=None, ge=0)
    """US dollars per million prompt tokens; null where unknown."""
    price_cached: float | None = Field(default=None, ge=0)
    """US dollars per million prompt tokens that the server had cached; null for `price_in`."""
    price_out: float | None = Field(default=None, ge=0)
    """US dollars per million completion tokens; null where unknown."""


class OpenAISettings(RemoteSettings):
    """Any server that speaks the OpenAI protocol."""

    provider: Literal["openai"]
    base_url: Address = None
    """Address of the server up to `/v1`; null for api.openai.com."""
    api_key_env: VariableName = "OPENAI_API_KEY"
    """Name of the environment variable with the key; the key itself is never stored."""
    headers: Headers = {}
    """Sent with every request; a value `env:NAME` is read from the environment variable NAME."""
    send_seed: bool = True
    """Send the index of the sample as `seed`; false for servers that refuse it."""


def _endpoint(address: object) -> object:
    # Anything else langchain-huggingface would take for the name of a model on the hub.
    if not str(address).startswith(("http://", "https://")):
        raise ValueError("give the address of the endpoint, e.g. http://127.0.0.1:8080")
    return address


class HFEndpointSettings(RemoteSettings):
    """A Hugging Face Inference Endpoint, or a Text Generation Inference server of one's own."""

    provider: Literal["hf_endpoint"]
    model: str = Field(default="tgi", min_length=1)
    """Name of the model, as the server knows it; most take any."""
    base_url: Annotated[Address, BeforeValidator(_endpoint)]
    """Address of the endpoint, with or without `/v1`."""
    api_key_env: VariableName = "HF_TOKEN"
    """Name of the environment variable with the key; the key itself is never stored."""
    headers: Headers = {}
    """Sent with every request; a value `env:NAME` is read from the environment variable NAME."""
    max_tokens: int = Field(default=512, ge=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Most tokens of one answer; without a number some servers stop after 100."""
    multiple: Literal[False] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    """The server gives one answer, however many it is asked for."""
    send_seed: bool = True
    """Send the index of the sample as `seed`; false for servers that refuse it."""


class LangchainSettings(RemoteSettings):
    """Any chat model of LangChain, by the path of its class."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    provider: Literal["langchain"]
    target_: str = Field(alias="_target_", pattern=r"^[A-Za-z_][\w.]*\.[A-Za-z_]\w*$")
    """Of the class, e.g. langchain_anthropic.ChatAnthropic; keys come from its own variables."""
    multiple: Literal[False] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    """LangChain knows no common way to ask for several completions."""
    json_schema: Literal[False] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    """Nor to hold answers to a schema; JSON is asked for in words alone."""
    options: Annotated[
        dict[str, Any], BeforeValidator(lambda given: given or {}), AfterValidator(_open)
    ] = {}
    """More of what the class takes; no keys, because they would be stored."""


def _named(model: object) -> object:
    if model is None:
        raise ValueError("name a folder with a model, or a model on the Hugging Face hub")
    return model


class LocalSettings(ModelSettings):
    """A model in this process, through transformers; needs `pip install 'drpo[local]'`."""

    # A frozen field may be narrower than in the class above; pyright does not know that it is.
    provider: Literal["huggingface"]
    model: Annotated[str, BeforeValidator(_named), Field(min_length=1)]
    """A folder with config.json, a tokenizer and *.safetensors, or a name on the hub."""
    temperature: float | None = Field(default=0.0, ge=0, le=2)
    """Of its draws; null for what the model's own generation_config.json says."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Share of the likeliest tokens it draws from; null for what the model itself says, or all."""
    max_tokens: int = Field(default=512, ge=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    """Most tokens of one answer."""
    json_schema: Literal[False] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    """Nothing holds a local model to a JSON schema; it is asked for JSON in words alone."""
    revision: str | None = None
    """Branch, tag or commit on the hub; null for the newest."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; `auto` takes them as they were saved."""
    device: str | None = None
    """`cpu`, `cuda:0`, or `auto` to spread it over all; null for a GPU where there is one."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Smaller weights, by bitsandbytes; null for none."""
    batch_size: int = Field(default=64, ge=1, le=4_096)
    """Most answers that are written side by side; halved whenever memory does not suffice."""
    batch_wait_ms: float = Field(default=5.0, ge=0, le=10_000)
    """How long a batch that is not full waits for one more request."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; it may do anything that you may."""


AnyModelSettings = Annotated[
    SandboxSettings | OpenAISettings | HFEndpointSettings | LocalSettings | LangchainSettings,
    Field(discriminator="provider"),
]


class ModelsSettings(Strict):
    """One model a role."""

    target: AnyModelSettings
    rewarder: AnyModelSettings
    judge: AnyModelSettings
    rewriter: AnyModelSettings


class RewardsSettings(Strict):
    """How the aspects of a query are found: chosen for it, or the same for all."""

    kind: Literal["dynamic", "static"]
    """Chosen by the rewarder for each query, or `fixed` for all."""
    pool: str = Field(min_length=1)
    """Name of the set of aspects."""
    aspects: dict[str, str] = Field(min_length=1)
    """The pool: definition of each aspect, by name."""
    fewest: int = Field(default=2, ge=1, le=20)
    """Fewest aspects of one query."""
    most: int = Field(default=5, ge=1, le=20)
    """Most aspects of one query."""
    fixed: tuple[str, ...] = ()
    """The aspects of every query where `kind` is static."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) is above most ({self.most})")
        if self.kind == "static" and not self.fixed:
            raise ValueError("static rewards need at least one aspect in `fixed`")
        unknown = [name for name in self.fixed if name not in self.aspects]
        if unknown:
            raise ValueError(
                f"`fixed` names {unknown[0]!r}, which is not in pool {self.pool!r}: "
                f"allowed are {', '.join(self.aspects)}"
            )
        return self


class JudgeSettings(Strict):
    """How one answer is judged."""

    samples: int = Field(default=1, ge=1, le=64)
    """How often the judge is asked about one answer; the scores of an aspect are averaged."""
    rubric: str | None = None
    """What each score means, in the user's words, in place of the usual 1 (fails) to 5 (could not
    be better)."""


class SearchSettings(Strict):
    """How the search goes; the `paper` preset is the method as published."""

    strategy: Literal["beam", "greedy", "monte_carlo", "best_of_n", "examples"]
    """Whom a level rewrites: the best W, the best one, the root at every level, the root once.
    `examples` is that of an example's own search and cannot be chosen: the best answer so far."""
    width: int = Field(ge=1, le=64)
    """W, how many candidates survive a level."""
    rewrites: int = Field(ge=1, le=64)
    """M, how many rewrites are asked for per surviving candidate."""
    levels: int = Field(ge=1, le=10_000)
    """States on a path, the root's included."""
    max_extension: int = Field(ge=0, le=10_000)
    """How many levels skips may add in all."""
    skip_above: float = Field(ge=1, le=5)
    """Reward (1-5) above which a surviving candidate is carried on without a rewrite."""
    queries_per_level: int = Field(ge=1, le=1_000)
    """B, how many queries every candidate of a level answers."""
    history: int = Field(ge=0, le=100)
    """How many prompts of its path the rewriter is shown."""
    recycle_queries: bool
    """When queries run out: again in a new seeded order, or (false) the search ends."""
    guards: bool
    """Whether `admit` may refuse rewrites."""
    unscored: Literal["leave_out", "zero"]
    """What an unreadable verdict counts as: nothing, or (the paper) reward 0 and a skip."""
    max_prompt_tokens: int = Field(ge=16, le=1_000_000)
    """Longest prompt the guards let pass, in tokens, estimated as characters / 4."""
    review: bool = False
    """Stop after each level for a person to look at the survivors; `drpo resume` goes on."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.strategy != "beam" and self.width != 1:
            raise ValueError(
                f"{self.strategy} rewrites one candidate a level, so width is 1, not {self.width}"
            )
        if self.review and self.strategy not in ("beam", "greedy"):
            raise ValueError(f"{self.strategy} keeps no beam; there is none to review")
        if self.strategy == "examples" and (self.queries_per_level, self.skip_above) != (1, 5):
            raise ValueError("examples asks one query and skips nothing below 5")
        return self


class DataSettings(Strict):
    """Which queries the search sees, and in which order."""

    path: str = Field(min_length=1)
    """A .jsonl, .csv or .txt file, or `builtin:train`, `builtin:held_out`, `sandbox:train`, ..."""
    shuffle: bool = True
    """Seeded order; false keeps the file's."""
    limit: int | None = Field(default=None, ge=1)
    """How many queries to draw, by the seed; null for all."""
    tags: tuple[str, ...] = ()
    """Only queries with one of these tags; empty for all."""


class StorageSettings(Strict):
    """How the run's file is written."""

    full_sync: bool = False
    """Survive a power cut, not only a crash, without losing the last commits: an fsync each."""
    recoveries: int = Field(default=10, ge=0)
    """How often in a row a run may be taken over from a process that died without an answer."""


class LedgerSettings(Strict):
    """Answers that need not be paid for."""

    reuse: str | None = None
    """Another run's file, whose answers to the same questions are taken over; it is only read."""


class TelemetrySettings(Strict):
    """Whom a run is told to while it goes on; needs `pip install 'drpo[otel]'`."""

    otlp: Annotated[
        str | None,
        AfterValidator(lambda given: given if given == ENVIRONMENT else _without_secrets(given)),
    ] = None
    """Address of an OpenTelemetry collector (OTLP over HTTP), e.g. http://127.0.0.1:4318, which is
    sent a span of each call, node and level; `env` for the one that OTEL_EXPORTER_OTLP_ENDPOINT
    names; null for none."""
    headers: Headers = {}
    """Sent along, e.g. {authorization: "env:COLLECTOR_KEY"}; the environment's are sent, too."""
    texts: bool = False
    """Send what was asked and answered, too: then texts leave this machine."""


class PromptsSettings(Strict):
    """The words the roles are asked in."""

    folder: str | None = None
    """A folder whose *.jinja files stand in for ours of the same name."""


class Settings(Strict):
    """The whole configuration of one run."""

    seed: int = Field(ge=0, lt=2**63)
    """Every random draw of the search comes from it."""
    root: Annotated[
        dict[Annotated[str, Field(min_length=1)], Annotated[str, Field(pattern=r"\S")]],
        BeforeValidator(_as_prompts),
        Field(min_length=1),
    ]
    """The prompts the search starts from: a text is short for `{system: text}`, @FILE reads one."""
    concurrency: int = Field(ge=1, le=4_096)
    """How many model calls may be in flight."""
    task: TaskSettings
    budget: BudgetSettings
    sandbox: WorldSettings
    openai: ServerSettings = ServerSettings()
    models: ModelsSettings
    rewards: RewardsSettings
    judge: JudgeSettings = JudgeSettings()
    search: SearchSettings
    data: DataSettings
    prompts: PromptsSettings
    storage: StorageSettings
    telemetry: TelemetrySettings = TelemetrySettings()
    ledger: LedgerSettings = LedgerSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    examples: ExamplesSettings = ExamplesSettings()
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="before")
    @classmethod
    def _marks(cls, values: Any) -> Any:
        root = _as_prompts(values.get("root")) if isinstance(values, dict) else None
        if not isinstance(root, dict) or not all(isinstance(text, str) for text in root.values()):
            return values
        plain, locked = {}, []
        for name, text in root.items():
            try:
                plain[name], sentences = unmarked(text)
            except ValueError as error:
                raise ValueError(f"root: prompt {name!r}: {error}") from None
            locked += sentences
        return {**values, "root": plain, "task": with_locked(values.get("task"), locked)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.search.strategy == "examples":
            raise ValueError(
                "search.strategy: examples is the strategy of an example's own search; allowed are "
                "beam, greedy, monte_carlo, best_of_n (task=examples optimizes examples)"
            )
        lost = missing(self.task.locked, self.root.values())
        if lost is not None:
            raise ValueError(f"task.locked: {lost!r} is no sentence of the root prompt")
        judge = self.models.judge
        if self.judge.samples > 1 and judge.provider != "sandbox" and judge.temperature == 0:
            raise ValueError(
                f"judge.samples={self.judge.samples} asks for the same verdict again and again "
                "while models.judge.temperature=0: set it above 0, or to null"
            )
        return self
