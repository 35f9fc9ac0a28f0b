"""Whether a model's chat template supports reasoning, and which of its switches a request can use."""

from __future__ import annotations

from typing import Any

from inference.engine.errors import InvalidSampling
from inference.engine.types import Sampling
from inference.engine.vocabulary import Vocabulary


class Thinking:
    """The reasoning of one model.

    Templates take ``enable_thinking`` and ``reasoning_effort`` by these names, as vLLM passes them.
    """

    def __init__(self, vocabulary: Vocabulary, template: str) -> None:
        self._has_switch = "enable_thinking" in template
        self._has_effort = "reasoning_effort" in template
        # Models without reasoning may still have the tags in their vocabulary.
        writes_tags = "<think>" in template or "</think>" in template
        self.is_possible = vocabulary.think_end is not None and (writes_tags or self._has_switch)

    def variables(self, sampling: Sampling) -> dict[str, Any]:
        """The variables for the template. Raises InvalidSampling for what this model does not support."""
        effort = sampling.reasoning_effort
        field = "reasoning_effort" if effort else "chat_template_kwargs.enable_thinking"
        if not self.is_possible:
            if sampling.enable_thinking or effort not in ("", "none"):
                raise InvalidSampling(field, "This model does not think before it answers. Leave it out.")
            if sampling.thinking_token_budget:
                raise InvalidSampling(
                    "thinking_token_budget", "This model does not think before it answers. Leave it out."
                )
        elif sampling.enable_thinking is False and not self._has_switch:
            raise InvalidSampling(
                field, "This model always thinks before it answers. thinking_token_budget: 0 ends the thought at once."
            )
        variables: dict[str, Any] = {}
        if self._has_switch and sampling.enable_thinking is not None:
            variables["enable_thinking"] = sampling.enable_thinking
        if self._has_effort and effort:
            variables["reasoning_effort"] = effort
        return variables
