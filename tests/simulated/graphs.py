"""CUDA graphs of the simulated device: what a capture records, refuses and leaves as it was.

A capture keeps every operation with the memory that it reads and writes; a replay does them again
on the same memory. So a number of the host, and a tensor that was replaced by another, are those of
the capture for ever, as on CUDA. Streams do all their work at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from simulated.counts import line


class Call(NamedTuple):
    """An operation of a capture: ``run`` computes what ``results`` hold."""

    run: Callable[[], Any]
    results: list[Tensor]


class Kept(NamedTuple):
    """Memory from before the capture, and what it held."""

    storage: torch.UntypedStorage
    content: torch.UntypedStorage


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``.

    Attributes:
        calls: operations, in order.
        outside: memory that was there before, by its address.
    """

    ledger: Any

    def __init__(self, keep_graph: bool = False) -> None:
        self.calls: list[Call] = []
        self.outside: dict[int, Kept] = {}
        self.inside: set[int] = set()

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Record; afterwards memory and streams of random numbers are as before."""
        streams = [generator.get_state() for generator in self.ledger.generators]
        self.ledger.capture = self
        try:
            yield
        finally:
            self.ledger.capture = None
            for kept in self.outside.values():
                kept.storage.copy_(kept.content)
            for generator, state in zip(self.ledger.generators, streams, strict=True):
                generator.set_state(state)

    def refuse(self, what: str) -> None:
        """Raise RuntimeError, as CUDA does."""
        raise RuntimeError(f"operation not permitted when stream is capturing ({what} at {line()})")

    def reads(self, operands: list[Tensor]) -> None:
        """Keep what memory from before the capture holds, at its first use."""
        for storage in (operand.untyped_storage() for operand in operands):
            key = storage._cdata
            if key not in self.inside and key not in self.outside:
                self.outside[key] = Kept(storage, storage.clone())

    def add(self, run: Callable[[], Any], result: Any, launched: bool) -> None:
        """Record an operation that has run; a view or an allocation needs no repetition."""
        results = [x for x in _flat(result) if isinstance(x, Tensor)]
        self.inside |= {x.untyped_storage()._cdata for x in results} - self.outside.keys()
        if launched:
            self.calls.append(Call(run, results))

    def replay(self) -> None:
        """Do it all again.

        Raises:
            RuntimeError: memory that was there before the capture has been freed since.
        """
        if self.ledger.capture is not None:
            self.refuse("a replay")
        for key in self.outside:
            if not any(memory.views[key] for memory in self.ledger.memory):
                raise RuntimeError("a graph is replayed on memory that was freed after its capture")
        self.ledger.counts.operators["graph"] += 1
        with torch.no_grad():
            for call in self.calls:
                found = [x for x in _flat(call.run()) if isinstance(x, Tensor)]
                for own, new in zip(call.results, found, strict=True):
                    if own.data_ptr() != new.data_ptr():  # else it was changed in place
                        own.copy_(new)


class Stream:
    """Stands for ``torch.cuda.Stream``."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        """Nothing to wait for."""


def replacements(ledger: Any) -> dict[str, Any]:
    """What stands in for functions and classes of ``torch.cuda``."""
    default = Stream()
    current = [default]

    @contextmanager
    def stream(chosen: Stream) -> Iterator[None]:
        current.append(chosen)
        try:
            yield
        finally:
            current.pop()

    @contextmanager
    def graph(cuda_graph: Graph, pool: Any = None, stream: Any = None) -> Iterator[None]:
        if current[-1] is default and stream is None:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream")
        with cuda_graph.capturing():
            yield

    return {
        "CUDAGraph": type("CUDAGraph", (Graph,), {"ledger": ledger}),
        "Stream": Stream,
        "stream": stream,
        "graph": graph,
        "current_stream": lambda device=None: current[-1],
        "is_current_stream_capturing": lambda: ledger.capture is not None,
    }


def _flat(x: Any) -> Iterator[Any]:
    if isinstance(x, list | tuple):
        for part in x:
            yield from _flat(part)
    else:
        yield x
