"""The names of spans and attributes: the GenAI semantic conventions of OpenTelemetry, and ours.

The conventions are those that semantic-conventions 1.44.0 lists (status: development); from there
they moved to open-telemetry/semantic-conventions-genai, whose first release, 0.1.0, changes one of
the names used here. Nothing else in drpo spells such a name.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
WORKFLOW: Final = "invoke_workflow"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
AGENT_NAME: Final = "gen_ai.agent.name"
"""What 0.1.0 calls the name of a workflow."""
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
REQUEST: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
}
"""By the name that a call's parameters have in a run's file."""
CHOICES: Final = "gen_ai.request.choice.count"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
EVALUATION: Final = "gen_ai.evaluation.result"
"""An event of the span whose answer is judged, one an aspect."""
ASPECT: Final = "gen_ai.evaluation.name"
SCORE: Final = "gen_ai.evaluation.score.value"
EXPLANATION: Final = "gen_ai.evaluation.explanation"
ERROR: Final = "error.type"

RUN: Final = "drpo.run"
KIND: Final = "drpo.kind"
STATUS: Final = "drpo.status"
REASON: Final = "drpo.reason"
PARENT: Final = "drpo.parent"
"""The run that a fork was made of."""
SEARCH: Final = "drpo.search"
LEVEL: Final = "drpo.level"
NODE: Final = "drpo.node"
CANDIDATE: Final = "drpo.candidate"
QUERY: Final = "drpo.query"
REPEAT: Final = "drpo.sample"
ITEM: Final = "drpo.item"
ACTION: Final = "drpo.action"
REWARD: Final = "drpo.reward"
UNSCORED: Final = "drpo.unscored"
ROLE: Final = "drpo.role"
CALL: Final = "drpo.call"
OUTCOME: Final = "drpo.outcome"
COST: Final = "drpo.cost_usd"
ESTIMATED: Final = "drpo.tokens_estimated"
ATTEMPT: Final = "drpo.attempt"
"""An event of a call that got no usable reply at once, one an attempt."""
NUMBER: Final = "drpo.attempt.number"
PROBLEM: Final = "drpo.attempt.problem"
FINDING: Final = "drpo.finding"
