"""The target of an example search: the candidate is the answer already, so nobody is asked."""

from __future__ import annotations

from drpo.graph.context import Place
from drpo.graph.requests import Answer
from drpo.graph.values import Prompts, Query, Sample

ANSWER = "answer"
"""The one entry in the prompts of a candidate that is an answer."""


class IdentityTarget:
    """Gives the candidate back."""

    async def run(
        self,
        prompts: Prompts,
        query: Query,  # noqa: ARG002 - every target has it
        place: Place,  # noqa: ARG002 - every target has it
    ) -> Answer[Sample]:
        """The candidate's own text, whatever the query."""
        return Answer(Sample(prompts[ANSWER]))
