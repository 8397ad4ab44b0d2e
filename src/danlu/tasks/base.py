"""What a task is: prompts, and a score for what comes back."""

from typing import Protocol, runtime_checkable

__all__ = ["Messages", "Task"]

Messages = list[dict[str, str]]


@runtime_checkable
class Task(Protocol):
    """Prompts with a score each. The same object evaluates a model and rewards it in reinforcement learning."""

    def __len__(self) -> int:
        """The number of prompts."""
        ...

    def prompt(self, i: int) -> Messages:
        """The i-th prompt as a chat that ends with the user."""
        ...

    def score(self, i: int, text: str) -> float:
        """How good `text` is as the answer to prompt i, from 0 to 1."""
        ...
