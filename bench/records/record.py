"""A record whose fields agree with each other, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import ValidationError, model_validator

from bench.records.checks import detail, problems
from bench.records.schema import Contents
from safs import checked, sealed
from safs.errors import SafsError
from safs.files import json_text, read_text, write_text


class Record(Contents):
    """The result of one run (:mod:`bench.records.schema`), held to :mod:`bench.records.checks`.

    Raises:
        pydantic.ValidationError: with every fault under its key path.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if found := [detail(problem) for problem in problems(self)]:
            raise ValidationError.from_exception_data("Record", found)
        return self

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read and check a record. Raises SafsError, naming every problem, or OSError."""
        return cls.parse(read_text(path, checked.MAX_BYTES), path.name)

    @classmethod
    def parse(cls, text: str, source: object) -> Record:
        """A record from its text. Raises SafsError, naming every problem."""
        record = checked.parsed(cls, text, source)
        if not sealed.is_sealed(text):
            raise SafsError(f"{source}: digest: not what was written: damaged or edited")
        return record

    def text(self) -> str:
        """The record as sealed JSON (:mod:`safs.sealed`)."""
        return json_text(sealed.seal(self.model_dump(mode="json", by_alias=True)))

    def write(self, path: Path) -> None:
        """Write the record atomically to ``path``."""
        write_text(path, self.text())
