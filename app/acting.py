"""What of an artifact acts: how it words messages, how it finds examples, what it needs trust for.

What a file names that could do harm on its own is used only where the user's own command names it,
too: code, folders with models, servers elsewhere, a template. Light: asks no model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from drpo.artifact import Artifact
from drpo.conf.schema import (
    OF_HEADERS,
    AnyModelSettings,
    EmbeddingServerSettings,
    HFEndpointSettings,
    LangchainSettings,
    LocalSettings,
    OpenAISettings,
    SentenceSettings,
)
from drpo.graph.errors import BadInput
from drpo.models.keys import Served, is_local, variables
from drpo.models.retrieval import ExampleRetriever
from drpo.nodes.prompts import JinjaTemplates
from drpo.nodes.target import Wording

TEMPLATE = "template"
"""By this name a user trusts the templates that an artifact brings."""
KEYS = ("OPENAI_API_KEY", "HF_TOKEN")
"""Variables that hold the keys of model servers and nothing else."""


def retriever_of(artifact: Artifact) -> ExampleRetriever | None:
    """Finds the examples of a query; None where there are none to find."""
    if not artifact.examples or artifact.retrieval.k == 0:
        return None
    return ExampleRetriever(artifact.shown, artifact.retrieval)


def wording_of(artifact: Artifact, *, own_model: bool = False) -> Wording:
    """How the artifact's messages are written; a chat model of one's own takes turns.

    Raises BadInput where this version of drpo has another template than the run had.
    """
    sources = {
        str(name): each.source
        for name, each in artifact.chat.templates.items()
        if each.source is not None
    }
    templates = JinjaTemplates(sources=sources)
    style = "chat" if own_model else artifact.chat.format
    name, hashes = f"target_{style}", templates.hashes()
    known = {str(name): each.sha256 for name, each in artifact.chat.templates.items()}
    if known.get(name, hashes[name]) != hashes[name]:
        version = artifact.provenance.drpo_version
        raise BadInput(
            f"the artifact's prompts were found with another {name}.jinja than this drpo has: "
            f"its messages would differ; use drpo {version}, or export it again"
        )
    return Wording(templates, style)


def check_trust(artifact: Artifact, trusted: Collection[str], *, own_model: bool) -> None:
    """Raises BadInput for what an artifact names and its user does not."""
    named = [*_of_embedder(artifact), *_of_templates(artifact)]
    if not own_model:
        named += _of_target(artifact.target)
    missing = {name: what for name, what in named if name not in trusted}
    if missing:
        raise BadInput(
            f"the artifact names {' and '.join(missing.values())}, and what a file names is used "
            f"only where you say so: trust {' and '.join(map(repr, missing))} (in Python "
            "trusted=[...], else --trust)"
        )


def _of_target(target: AnyModelSettings) -> Iterator[tuple[str, str]]:
    match target:
        case LangchainSettings():
            yield target.target_, f"the class {target.target_} as its model"
        case LocalSettings(trust_remote_code=True):
            raise BadInput(
                f"the artifact's model {target.model!r} brings code of its own, which no file may; "
                "give another as model="
            )
        case LocalSettings():
            yield target.model, f"the model {target.model!r} to read into this process"
        case OpenAISettings() | HFEndpointSettings():
            yield from _of_server(target)
        case _:
            pass


def _of_embedder(artifact: Artifact) -> Iterator[tuple[str, str]]:
    embedder = artifact.retrieval.embedder
    if retriever_of(artifact) is None:
        return
    match embedder:
        case SentenceSettings():
            yield embedder.model, f"the model {embedder.model!r} to read into this process"
        case EmbeddingServerSettings():
            yield from _of_server(embedder)
        case _:
            pass


def _of_server(settings: Served) -> Iterator[tuple[str, str]]:
    """A key and all that is asked would go to a server of the artifact's choice."""
    address = settings.base_url
    if address is not None and not is_local(address):
        yield address, f"the server {address}"
    for name in variables(settings):
        if name not in KEYS and not name.startswith(OF_HEADERS):
            yield name, f"the environment variable {name}, whose value its server would be sent"


def _of_templates(artifact: Artifact) -> Iterator[tuple[str, str]]:
    if any(each.source is not None for each in artifact.chat.templates.values()):
        yield TEMPLATE, "a prompt template of its own"
