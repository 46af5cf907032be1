"""The space of a landscape: which chromosomes there are, and the number of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from types import MappingProxyType

from safs.errors import SafsError, UnknownName, shown

SAME: Mapping[str, str] = MappingProxyType({"acon": "swish"})
"""Operators that are another one at their published parameters: one training, two names."""
ORDERS = 2
"""Batch orders: the one of stage 1, and for a sample of the chromosomes a second."""
SAMPLE = 2000
"""Chromosomes of a replicate that are trained under the second order too."""
BUDGETS = (21, 100)
"""Evaluations of a search that is raced: stage 1's (Table 4), and five times as many."""

Chromosome = tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """All chromosomes of one operator per slot.

    Args:
        operators: the candidates of the search, as it may draw them.
        slots: the network's slots, in the order of use.
    """

    operators: tuple[str, ...]
    slots: tuple[str, ...]

    @cached_property
    def distinct(self) -> tuple[str, ...]:
        """The operators without those that are another one (:data:`SAME`)."""
        return each_once(self.operators)

    @cached_property
    def _digit(self) -> dict[str, int]:
        return {name: self.distinct.index(SAME.get(name, name)) for name in
                (*self.operators, *self.distinct)}  # fmt: skip

    def __len__(self) -> int:
        return int(len(self.distinct) ** len(self.slots))

    def index(self, chromosome: Sequence[str]) -> int:
        """The number of a chromosome, from 0; one for all of its names.

        Raises:
            SafsError: it has too few or too many operators, or one that the space does not have.
        """
        if isinstance(chromosome, str) or len(chromosome) != len(self.slots):
            raise SafsError(f"expected {len(self.slots)} operators, one per slot; got "
                            f"{shown(chromosome)}")  # fmt: skip
        number = 0
        for name in chromosome:
            if name not in self._digit:
                raise UnknownName("operator", name, self.operators)
            number = number * len(self.distinct) + self._digit[name]
        return number

    def chromosome(self, index: int) -> Chromosome:
        """The chromosome of a number. Raises SafsError where there is none."""
        if not 0 <= index < len(self):
            raise SafsError(f"chromosome {index}: expected a number from 0 to {len(self) - 1}")
        digits = []
        for _ in self.slots:
            index, digit = divmod(index, len(self.distinct))
            digits.append(self.distinct[digit])
        return tuple(reversed(digits))

    def shells(self, operators: Sequence[str]) -> Iterator[list[int]]:
        """The chromosomes of some operators, by the last of these that each has.

        The first ``k`` lists together are the whole space of the first ``k`` operators: a table
        that is filled in this order is complete for ever more operators.
        """
        chosen = each_once(operators)
        for last in range(len(chosen)):
            yield [
                self.index(chromosome)
                for chromosome in product(chosen[: last + 1], repeat=len(self.slots))
                if chosen[last] in chromosome
            ]

    def sample(self, *key: int, count: int = SAMPLE) -> frozenset[int]:
        """A random part of the whole space, by the lowest digests of key and chromosome.

        Whether a chromosome is in it does not depend on which others are asked for.
        """

        def drawn(index: int) -> bytes:
            text = " ".join([*map(str, key), *self.chromosome(index)])
            return hashlib.sha256(text.encode()).digest()

        return frozenset(sorted(range(len(self)), key=drawn)[:count])


def each_once(operators: Sequence[str]) -> tuple[str, ...]:
    """Operators in their order, those that are another one under its name."""
    return tuple(dict.fromkeys(SAME.get(name, name) for name in operators))
