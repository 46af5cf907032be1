"""What a training loop asks of the code that does its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from safs.training.data import Images
from safs.training.scores import Score

State = dict[str, Any]


@dataclass(frozen=True)
class EpochSums:
    """Sums over an epoch, behind the means of :class:`safs.training.loop.Epoch`.

    Attributes:
        loss: sum over images of the cross-entropy in training mode; not finite if it diverged, in
            which case an epoch may end with that step.
        correct: images whose largest logit is the label's.
        flow: sum over steps of ``lr * ||g||^2``.
        flow_step: sum over steps of ``-g . delta``.
        flow_released: mean absolute gradient of the last batch.
        failed_step: 1-based step whose loss was the first that was not finite; None for none.
    """

    loss: float
    correct: int
    flow: float
    flow_step: float
    flow_released: float
    steps: int
    images: int
    failed_step: int | None = None


class Backend(Protocol):
    """One network in training with one optimiser. Backends differ in rounding only."""

    name: str

    def train_epoch(self, epoch: int, lr: float) -> EpochSums:
        """Train the 0-based ``epoch`` at a learning rate."""

    def score(self, images: Images) -> Score:
        """Evaluate the present network in evaluation mode."""

    def finish(self) -> None:
        """Leave the present parameters in the network that was handed in."""

    def state(self) -> State:
        """Parameters and optimiser, to resume bit for bit."""

    def load(self, state: State) -> None:
        """Go back to a :meth:`state`."""
