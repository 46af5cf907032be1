"""What git says is read in whatever language it speaks."""

import os

from pipelines.storage import repository

GIT = """#!/bin/sh
[ "$LC_ALL" = C ] && echo "fatal: not a git repository" >&2 || echo "Kein Git-Repository" >&2
exit 128
"""


def test_no_repository_is_none_in_every_language(tmp_path, monkeypatch):
    (tmp_path / "git").write_text(GIT)
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert repository.commit() is None
