"""A lab file whose fields and runs agree with each other."""

from __future__ import annotations

from typing import Self

from pydantic import ValidationError, model_validator

from bench.labs.checks import problems
from bench.labs.schema import Contents
from bench.records.checks import detail


class LabFile(Contents):
    """A lab file (:mod:`bench.labs.schema`), held to :mod:`bench.labs.checks`.

    Raises:
        pydantic.ValidationError: with every fault under its key path.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if found := [detail(problem) for problem in problems(self)]:
            raise ValidationError.from_exception_data("LabFile", found)
        return self
