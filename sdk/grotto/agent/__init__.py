"""The agent: a model that answers by writing code which runs in a session.

from grotto.agent import Agent

reply = Agent("gpt-4o", session).run("What is the total revenue by region?")
"""

from grotto.agent._agent import Agent, AgentEvent, Answered, Executed, Reply, Status
from grotto.agent._models import (
    Completion,
    LiteLLMModel,
    Message,
    Model,
    ModelError,
    ScriptedModel,
    ScriptExhaustedError,
    TokenUsage,
)

__all__ = [
    "Agent",
    "AgentEvent",
    "Answered",
    "Completion",
    "Executed",
    "LiteLLMModel",
    "Message",
    "Model",
    "ModelError",
    "Reply",
    "ScriptExhaustedError",
    "ScriptedModel",
    "Status",
    "TokenUsage",
]
