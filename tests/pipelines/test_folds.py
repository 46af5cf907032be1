"""Folds in files: the same images, mapped by every worker, never those of other data."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pytest
import torch

from pipelines.storage import folds
from safs.datasets import load_part
from safs.errors import SafsError
from safs.training.data import load_fold

CPU = torch.device("cpu")


def load(folder: Path, replicate: int = 1, name: str = "mnist5k"):
    return folds.load(name, replicate, 7, load_part(name, "train").checksum(), CPU, None, folder)


@pytest.mark.parametrize("name", ["mnist5k", "generated_cifar"])
def test_the_fold_is_that_of_the_method(tmp_path, name):
    expected = load_fold(name, 1, 7, CPU)
    for _ in ("written", "read"):
        found = load(tmp_path, name=name)
        assert found.augmentation == expected.augmentation and found.classes == expected.classes
        for part in ("train", "validation"):
            pairs = zip(
                astuple(getattr(found, part)), astuple(getattr(expected, part)), strict=True
            )
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_it_stays_in_the_file_and_is_not_read_again(tmp_path, monkeypatch):
    load(tmp_path)
    monkeypatch.delattr(folds, "_write")
    fold = load(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    assert str(path) in Path("/proc/self/maps").read_text(), "mapped into memory"
    before = path.read_bytes()
    fold.train.pixels.zero_()
    assert path.read_bytes() == before and bool(load(tmp_path).train.pixels.any())


def test_a_damaged_file_is_written_again(tmp_path):
    expected = load(tmp_path).train.pixels.clone()
    (path,) = tmp_path.glob("*.safetensors")
    written = path.read_bytes()
    for damaged in (written[:-1000], written[:-1] + bytes([written[-1] ^ 1]), b""):
        path.unlink()
        path.write_bytes(damaged)
        assert torch.equal(load(tmp_path).train.pixels, expected)
        assert path.read_bytes() == written


def test_another_replicate_or_other_images_are_another_file(tmp_path):
    cases = ((1, "mnist5k", 1), (2, "mnist5k", 2), (1, "generated_digits", 3), (6, "mnist5k", 3))
    for replicate, name, files in cases:
        load(tmp_path, replicate, name)
        assert len(list(tmp_path.glob("*.safetensors"))) == files, (replicate, name)


def test_images_that_are_not_the_stages_are_refused(tmp_path):
    with pytest.raises(SafsError, match=r"mnist5k: .* those of the stage 0000"):
        folds.load("mnist5k", 1, 7, "0" * 64, CPU, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_nothing_is_shared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fold = folds.load("mnist5k", 0, 7, "none", CPU, None, None)
    assert len(fold.train) and list(tmp_path.iterdir()) == []


def test_its_identity_tells_images_from_others_and_replicates_apart():
    def of(replicate: int = 0, seed: int = 7, checksum: str = "c") -> str:
        return folds.identity("mnist5k", replicate, seed, checksum)

    others = [of(replicate=1), of(seed=8), of(checksum="d")]
    assert of() == of() == of(replicate=5) and len({of(), *others}) == 4
