"""A CUDA device's whole training step as one graph: captured once, replayed for every full batch.

A step of a small network takes the host longer to launch, kernel by kernel, than the device to do.
A graph is one launch. It repeats the same kernels on the same memory, so what changes from step to
step lies in tensors that stay where they are: batch, learning rate, sums, and the optimiser's state
with its counts of steps. Capturing runs nothing, and the steps before it are the training's own, so
none has to be undone. Dropout draws from the device's default generator, which torch registers with
every capture: a replay draws what the step would have drawn, and moves the generator on as far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from safs.errors import SafsError

Step = Callable[[Tensor, Tensor], None]

WARM_UP = 3
"""Full batches before the capture: optimisers make their state, libraries load and choose."""


class Captured:
    """Runs the steps of one training, full batches as replays of a graph.

    Args:
        device: a CUDA device.
        full: images in a full batch; a smaller one, the last of an epoch, is run as it is.
    """

    def __init__(self, device: torch.device, full: int) -> None:
        self.full, self.stream = full, torch.cuda.Stream(device)
        self.forget()

    def forget(self) -> None:
        """Capture anew: network or optimiser have other memory than the graph."""
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: tuple[Tensor, Tensor] | None = None
        self.before = WARM_UP

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        """The stream of all steps, as the device's default one cannot be captured."""
        default = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(default)
        with torch.cuda.stream(self.stream):
            yield
        default.wait_stream(self.stream)

    def run(self, step: Step, images: Tensor, labels: Tensor) -> None:
        """Do a step, on the side stream.

        Args:
            step: the same at every call; it reads from tensors that stay whatever changes.
            images, labels: the batch.

        Raises:
            SafsError: the step waits for the device, or does what else a graph cannot hold.
        """
        if len(labels) < self.full:
            step(images, labels)
        elif self.before:
            self.before -= 1
            step(images, labels)
        else:
            self._replay(step, images, labels)

    def _replay(self, step: Step, images: Tensor, labels: Tensor) -> None:
        if self.graph is None or self.batch is None:
            self.batch = images.clone(), labels.clone()
            self.graph = self._captured(step, *self.batch)
        for own, given in zip(self.batch, (images, labels), strict=True):
            own.copy_(given)
        self.graph.replay()

    def _captured(self, step: Step, images: Tensor, labels: Tensor) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                step(images, labels)
        except RuntimeError as error:
            why = str(error.__context__ or error).partition("\n")[0]
            raise SafsError(
                f"acceleration.graphs: the training step cannot be captured ({why}); "
                "train this network with graphs: false"
            ) from error
        return graph
