"""The parameters of a chat request for the reasoning before an answer: whether there is any, and its maximum length."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.conf import settings
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from inference.api.parameters import check_template_variables
from inference.errors import InvalidRequest

#: effort → budget of the reasoning as a fraction of MAX_REASONING_TOKENS; templates of Qwen do not support efforts
EFFORT_SHARES = {"minimal": 1 / 8, "low": 1 / 4, "medium": 1 / 2, "high": 1, "xhigh": 1, "max": 1}


class TemplateVariables(BaseModel):
    """What the model's chat template is given."""

    model_config = ConfigDict(extra="allow")

    enable_thinking: StrictBool | None = Field(
        None, description="Whether the model thinks first. Refused where its chat template has no such switch."
    )


class ReasoningParameters(BaseModel):
    """The fields of a chat request about thoughts."""

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        None,
        description="`none` turns thinking off where the model's chat template can. The others limit the reasoning to "
        "an eighth, a quarter, a half or, from `high` on, all of "
        f"{settings.MAX_REASONING_TOKENS} tokens on this server. Refused by a model that does not think.",
    )
    chat_template_kwargs: TemplateVariables | None = Field(
        None, description="`enable_thinking` only; other variables are refused."
    )
    thinking_token_budget: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None,
        description="Maximum tokens of the reasoning. When they are used up, the reasoning ends and the answer begins. "
        "Takes precedence over reasoning_effort.",
    )

    def check_reasoning(self) -> None:
        """Raise for fields that contradict each other, and for variables that are not served."""
        if self.chat_template_kwargs is not None:
            check_template_variables(self.chat_template_kwargs.model_extra or {})
        enabled = self._enabled()
        effort = self.reasoning_effort
        if effort is not None and enabled is not None and enabled == (effort == "none"):
            raise InvalidRequest(
                "reasoning_effort and chat_template_kwargs.enable_thinking contradict each other. Send one.",
                param="reasoning_effort",
            )

    def reasoning_sampling(self, *, has_limit: bool) -> dict[str, Any]:
        """The fields of ``Sampling`` for the reasoning. ``has_limit``: the request itself limits the tokens."""
        budget = self.thinking_token_budget
        if budget is None and self.reasoning_effort in EFFORT_SHARES:
            budget = int(settings.MAX_REASONING_TOKENS * EFFORT_SHARES[self.reasoning_effort])
        if budget is not None:
            budget = min(budget, settings.MAX_TOKENS_LIMIT)
        allowance = settings.MAX_REASONING_TOKENS if budget is None else budget
        return {
            "max_reasoning_tokens": None if has_limit else allowance,
            "thinking_token_budget": budget,
            "enable_thinking": False if self.reasoning_effort == "none" else self._enabled(),
            "reasoning_effort": self.reasoning_effort or "",
        }

    def _enabled(self) -> bool | None:
        return None if self.chat_template_kwargs is None else self.chat_template_kwargs.enable_thinking
