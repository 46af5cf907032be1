"""Official file formats, checksums, malicious pickles, conversion; everything without a network."""

import codecs
import gzip
import hashlib
import io
import os
import pickle
import pickletools
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from safs.datasets import (
    DATASETS,
    Arrays,
    Augmentation,
    batches,
    load_part,
    partition,
    store,
    unpickle,
)
from safs.datasets.cifar10 import SOURCE as CIFAR10_SOURCE
from safs.datasets.cifar10 import cifar10
from safs.datasets.downsample import downsample, main, shrink
from safs.datasets.fashion_mnist_rgb import fashion_mnist_rgb16, fashion_mnist_rgb32
from safs.datasets.imagenet16 import imagenet16
from safs.datasets.mnist import FASHION_MNIST_SOURCE, MNIST_SOURCE, fashion_mnist, mnist
from safs.datasets.source import OfficialFiles
from safs.errors import SafsError, one_line
from safs.training.data import load_fold, load_test

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    load_part.cache_clear()
    yield
    load_part.cache_clear()


def md5(content):
    return hashlib.md5(content).hexdigest()


# --- MNIST and Fashion-MNIST ------------------------------------------------------------------


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def mnist_contents(train=36, test=10):
    contents = {}
    for prefix, count in (("train", train), ("t10k", test)):
        contents[f"{prefix}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (count, 28, 28)))
        contents[f"{prefix}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    return contents


def put(folder, contents, *, packed=True):
    """Write the files and return the checksums of what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, content in contents.items():
        raw = gzip.compress(content, mtime=0) if packed else content
        (folder / (f"{name}.gz" if packed else name)).write_bytes(raw)
        sums[name] = (md5(raw),)
    return sums


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("entry", "official", "folder"),
    [(mnist, MNIST_SOURCE, "MNIST"), (fashion_mnist, FASHION_MNIST_SOURCE, "FashionMNIST")],
)
def test_idx_files_in_torchvisions_layout(tmp_path, entry, official, folder, packed):
    contents = mnist_contents()
    sums = put(tmp_path / folder / "raw", contents, packed=packed)
    source = replace(official, files=sums)
    train, test = (entry.load(part, tmp_path, source) for part in ("train", "test"))
    assert train.images.shape == (36, 1, 28, 28) and test.images.shape == (10, 1, 28, 28)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int64)
    assert train.images.tobytes() == contents["train-images-idx3-ubyte"][16:]
    assert test.labels.tolist() == list(range(10))


def test_fashion_mnist_for_colour_networks_is_padded_averaged_and_chosen(tmp_path):
    """Every class as often as asked for, in its order; each pixel is that of the file or a mean."""
    contents = mnist_contents(train=40)
    source = replace(FASHION_MNIST_SOURCE, files=put(tmp_path / "FashionMNIST/raw", contents))
    whole = fashion_mnist.load("train", tmp_path, source)
    large, small = (
        entry.load("train", tmp_path, source, per_class=3)
        for entry in (fashion_mnist_rgb32, fashion_mnist_rgb16)
    )
    assert large.images.shape == (30, 3, 32, 32) and small.images.shape == (30, 3, 16, 16)
    assert np.bincount(large.labels).tolist() == [3] * 10
    assert (large.images == large.images[:, :1]).all() and (
        small.images == small.images[:, :1]
    ).all()
    assert not large.images[:, :, :2].any() and not large.images[:, :, :, -2:].any()
    inner = large.images[:, :1, 2:-2, 2:-2]
    places = [next(i for i, x in enumerate(whole.images) if (x == image).all()) for image in inner]
    assert places == sorted(places) and large.labels.tolist() == whole.labels[places].tolist()
    boxes = large.images[:, 0].reshape(30, 16, 2, 16, 2).mean(axis=(2, 4))
    assert (small.images[:, 0] == np.floor(boxes + 0.5)).all()
    assert len(fashion_mnist_rgb32.load("test", tmp_path, source).labels) == 10


def test_fashion_mnist_for_colour_networks_made_otherwise_is_refused(tmp_path, monkeypatch):
    contents = mnist_contents()
    monkeypatch.setattr(OfficialFiles, "read", lambda self, name, directory: contents[name])
    with pytest.raises(SafsError, match="have the checksum"):
        fashion_mnist_rgb16.load("test", tmp_path)


def test_a_copy_compressed_anew_counts_by_its_content(tmp_path):
    contents = mnist_contents()
    put(tmp_path / "MNIST/raw", contents)
    by_content = {name: ("0" * 32, md5(content)) for name, content in contents.items()}
    arrays = mnist.load("train", tmp_path, replace(MNIST_SOURCE, files=by_content))
    assert len(arrays.labels) == 36


def test_a_wrong_checksum_names_file_and_sums(tmp_path):
    put(tmp_path / "MNIST/raw", mnist_contents())
    with pytest.raises(SafsError, match=r"train-images-idx3-ubyte\.gz: MD5 sum .* expected f68b3"):
        mnist.load("train", tmp_path)


def assert_says_what_to_put_where(error, directory):
    message = str(error)
    assert message.startswith("missing data: put ") and "\n" not in message
    assert f" into {directory}" in message
    assert not directory.exists()


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("mnist", "MNIST/raw", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]),
        ("fashion_mnist", "FashionMNIST/raw", ["train-labels-idx1-ubyte.gz"]),
        ("fashion_mnist_rgb16", "FashionMNIST/raw", ["t10k-labels-idx1-ubyte.gz"]),
        ("cifar10", "cifar-10-batches-py", ["data_batch_1", "test_batch", "cifar-10-python.tar"]),
        ("imagenet16", "imagenet16", ["train_data_batch_1,", "train_data_batch_10"]),
    ],
)
def test_missing_data_is_one_line_that_says_what_to_put_where(tmp_path, name, folder, files):
    directory = tmp_path / "data"
    with pytest.raises(SafsError) as caught:
        load_part(name, "train", directory)
    assert_says_what_to_put_where(caught.value, directory)
    assert f"into {directory / folder}" in str(caught.value)
    assert all(file in str(caught.value) for file in files)


def test_without_a_directory_data_is_looked_for_in_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sums = put(tmp_path / "data/MNIST/raw", mnist_contents())
    assert len(mnist.load("test", None, replace(MNIST_SOURCE, files=sums)).labels) == 10


def test_what_is_missing_is_downloaded_and_verified(tmp_path):
    contents = mnist_contents()
    sums = {name: (md5(content),) for name, content in contents.items()}
    calls = []

    def download(directory):
        calls.append(directory)
        put(directory / "MNIST/raw", contents)

    source = replace(MNIST_SOURCE, files=sums, download=download)
    for _ in range(2):
        assert len(mnist.load("train", tmp_path / "data", source).labels) == 36
    assert len(calls) == 1
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["MNIST"]
    bad = replace(source, files=dict.fromkeys(contents, ("0" * 32,)))
    with pytest.raises(SafsError, match="MD5 sum"):
        mnist.load("train", tmp_path / "elsewhere", bad)


def test_damaged_idx_files_are_refused(tmp_path):
    for damage, complaint in (
        (lambda content: content[:-1], "bytes, expected"),
        (lambda content: b"\x00\x00\x0d" + content[3:], "not an IDX file"),
    ):
        contents = mnist_contents()
        contents["train-images-idx3-ubyte"] = damage(contents["train-images-idx3-ubyte"])
        sums = put(tmp_path / "MNIST/raw", contents)
        with pytest.raises(SafsError, match=complaint):
            mnist.load("train", tmp_path, replace(MNIST_SOURCE, files=sums))
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(SafsError, match="not a gzip file"):
        mnist.load("train", tmp_path, MNIST_SOURCE)


def test_the_checksum_tables_are_torchvisions():
    for source, theirs in (
        (MNIST_SOURCE, torchvision.datasets.MNIST),
        (FASHION_MNIST_SOURCE, torchvision.datasets.FashionMNIST),
    ):
        assert {f"{name}.gz": sums[0] for name, sums in source.files.items()} == dict(
            theirs.resources
        )
        assert source.folder == f"{theirs.__name__}/raw"
    theirs = torchvision.datasets.CIFAR10
    table = {name: sums[0] for name, sums in CIFAR10_SOURCE.files.items()}
    assert table == dict(theirs.train_list + theirs.test_list)
    assert CIFAR10_SOURCE.folder == theirs.base_folder


@pytest.mark.parametrize("packed", [True, False])
def test_files_directly_in_the_data_directory_are_found(tmp_path, packed):
    source = replace(FASHION_MNIST_SOURCE, files=put(tmp_path, mnist_contents(), packed=packed))
    assert len(fashion_mnist.load("train", tmp_path, source).labels) == 36


def test_an_idx_header_that_lies_is_refused(tmp_path):
    for sizes in ((2**32 - 1,) * 3, (2**31, 2**31, 4), (36, 28, 29), (0, 28, 28)):
        contents = mnist_contents()
        name = "train-images-idx3-ubyte"
        contents[name] = struct.pack(">BBBB3I", 0, 0, 8, 3, *sizes) + contents[name][16:]
        source = replace(MNIST_SOURCE, files=put(tmp_path / "MNIST/raw", contents))
        with pytest.raises(SafsError, match="bytes, expected"):
            mnist.load("train", tmp_path, source)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: raw[: len(raw) // 2], "not a gzip file"),
        (lambda raw: raw[:20] + b"\xff" * 40 + raw[60:], "not a gzip file"),
        (lambda raw: gzip.compress(bytes(5000)), "unpacks to more than 4000 bytes"),
        (lambda raw: bytes(4001), "4001 bytes; expected 1 to 4000"),
        (lambda raw: b"", "an empty file"),
    ],
)
def test_packed_files_are_unpacked_within_bounds(tmp_path, monkeypatch, damage, words):
    monkeypatch.setattr("safs.datasets.source.MAX_BYTES", 4000)
    put(tmp_path / "MNIST/raw", mnist_contents(train=3))
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SafsError, match=words) as caught:
        mnist.load("train", tmp_path)
    assert "\n" not in str(caught.value)


# --- CIFAR-10 ---------------------------------------------------------------------------------


def python2_pickle(batch):
    """The official batches' way: protocol 2, byte strings, and arrays whose content is a string."""
    data = batch["data"]

    def text(value):
        return b"U" + bytes((len(value),)) + value

    head = b"\x80\x02}q\x00(" + text(b"data")
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
        b"(K\x01" + b"J%bJ%b\x86" % tuple(struct.pack("<i", n) for n in data.shape)
        + b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + struct.pack("<i", data.nbytes) + data.tobytes() + b"tb"
    )  # fmt: skip
    labels = b"](" + b"".join(b"K" + bytes((label,)) for label in batch["labels"]) + b"e"
    return head + array + text(b"labels") + labels + b"u."


def cifar_contents(pickler=python2_pickle, count=6):
    contents = {}
    for name in CIFAR10_SOURCE.files:
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        contents[name] = pickler({"data": data, "labels": [i % 10 for i in range(count)]})
    return contents


def test_cifar10_batches_as_python_2_wrote_them(tmp_path):
    contents = cifar_contents()
    pickletools.dis(contents["test_batch"], io.StringIO())
    sums = put(tmp_path / "cifar-10-batches-py", contents, packed=False)
    source = replace(CIFAR10_SOURCE, files=sums)
    train, test = (cifar10.load(part, tmp_path, source) for part in ("train", "test"))
    assert train.images.shape == (30, 3, 32, 32) and test.images.shape == (6, 3, 32, 32)
    theirs = pickle.loads(contents["data_batch_2"], encoding="latin1")
    assert np.array_equal(train.images[6:12].reshape(6, -1), theirs["data"])
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5] * 5 and train.labels.dtype == np.int64


def test_cifar10_from_the_official_archive(tmp_path):
    contents = cifar_contents()
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    sums = {name: (md5(content),) for name, content in contents.items()}
    arrays = cifar10.load("test", tmp_path, replace(CIFAR10_SOURCE, files=sums))
    assert len(arrays.labels) == 6


def test_cifar10_directly_in_the_data_directory(tmp_path):
    source = replace(CIFAR10_SOURCE, files=put(tmp_path, cifar_contents(), packed=False))
    assert len(cifar10.load("train", tmp_path, source).labels) == 30


def test_an_archive_unpacked_on_a_full_disk_is_no_wrong_archive(tmp_path):
    name = "data_batch_1"
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(bytes(100_000)))
    folder = tmp_path / "cifar-10-batches-py"
    full(folder / f".{name}.{os.getpid()}")
    with pytest.raises(OSError) as caught:
        cifar10.load("train", tmp_path)
    assert one_line(caught.value) == f"{folder / name}: No space left on device"


def test_an_archive_that_is_not_the_official_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("safs.datasets.cifar10.MAX_BYTES", 1000)
    archive = tmp_path / "cifar-10-python.tar.gz"
    for size, words in ((2000, "has 2000 bytes"), (10, "without cifar-10-batches-py/data_batch_1")):
        with tarfile.open(archive, "w:gz") as tar:
            entry = tarfile.TarInfo("cifar-10-batches-py/other")
            entry.size = size
            tar.addfile(entry, io.BytesIO(bytes(size)))
        with pytest.raises(SafsError, match=words):
            cifar10.load("test", tmp_path)
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(SafsError, match="not the official archive"):
        cifar10.load("test", tmp_path)


@pytest.mark.parametrize("content", [{}, {"data": [[1]], "labels": [1]}, [1, 2]])
def test_a_batch_that_is_none_is_refused(tmp_path, content):
    contents = cifar_contents(lambda batch: pickle.dumps(content))
    sums = put(tmp_path / "cifar-10-batches-py", contents, packed=False)
    with pytest.raises(SafsError, match="not a batch with data and labels"):
        cifar10.load("test", tmp_path, replace(CIFAR10_SOURCE, files=sums))


# --- pickles ----------------------------------------------------------------------------------


class Reduced:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def shared_lists(levels):
    """A list in a list, each twice: 2 to the power of ``levels`` lists, were they written out."""
    found = [1.5]
    for _ in range(levels):
        found = [found, found]
    return found


def test_shared_and_nested_containers_take_no_time():
    assert unpickle.load(pickle.dumps(shared_lists(60)))
    deep = b"]" + b"]" * 100_000 + b"a" * 100_000 + b"."
    with pytest.raises(SafsError, match="not a pickle of arrays"):
        unpickle.load(deep)
    endless = []
    endless.append(endless)
    with pytest.raises(SafsError, match="not a pickle of arrays"):
        unpickle.load(pickle.dumps(endless))


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_numbers_and_containers_pass(protocol):
    value = {
        "data": rng.integers(0, 256, (4, 6), dtype=np.uint8),
        "columns": np.asfortranarray(rng.normal(size=(3, 5))),
        "half": np.arange(4, dtype=">i2"),
        "empty": np.zeros((0, 3), np.float32),
        "labels": [1, 2, 3],
        b"bytes": b"\x00\xff",
        "nested": OrderedDict(a=(1.5, None, True, np.int64(7), {"x": np.float32(0.5)})),
    }
    found = unpickle.load(pickle.dumps(value, protocol))
    assert list(found) == list(value)
    for key in ("data", "columns", "half", "empty"):
        assert found[key].dtype == value[key].dtype and np.array_equal(found[key], value[key])
    for key in ("labels", b"bytes", "nested"):
        assert found[key] == value[key]


@pytest.mark.parametrize(
    "attack",
    [
        Reduced(os.system, "touch owned"),
        Reduced(os.putenv, "A", "B"),
        Reduced(eval, "1"),
        Reduced(exec, "import os"),
        Reduced(getattr, "a", "upper"),
        Reduced(__import__, "os"),
        Reduced(subprocess.Popen, ["true"]),
        Reduced(open, "owned", "w"),
        Reduced(pickle.loads, b"N."),
        Reduced(np.load, "owned"),
        Reduced(np.fromfile, "owned"),
        Reduced(codecs.decode, b"x", "zlib"),
        Reduced(codecs.encode, "x", "rot13"),
        np.array([Reduced(os.system, "touch owned")], dtype=object),
        np.array([("a", 1)], dtype=[("name", "U1"), ("n", "i4")]),
        np.array(["text"]),
        Path("owned"),
        slice(1),
        Reduced,
    ],
    ids=lambda attack: type(attack).__name__,  # the same in every process of pytest-xdist
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_everything_else_is_refused(tmp_path, monkeypatch, attack, protocol):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": attack}, protocol)
    with pytest.raises(SafsError, match="batch_1: ") as caught:
        unpickle.load(content, "batch_1")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch owned'\ntR.",
        b"cnumpy.core.multiarray\nos\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0blib.os.path\x93.",
        # State for a class itself, instead of for an instance of it.
        b"cnumpy\nndarray\n}S'array'\nI1\nsb.",
        b"cnumpy\ndtype\n(N}S'code'\nI1\nstb.",
        b"ccollections\nOrderedDict\n(N}S'a'\nI1\nstb.",
        b"c_codecs\nencode\n(N}S'a'\nI1\nstb.",
        # Sizes that do not fit, and an array without a type.
        b"cnumpy.core.multiarray\n_reconstruct\n(t)R(I1\n(I9\ntNI00\nS'ab'\ntb.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\ntRS'ab'\ntR.",
        b"Pid\n.",
        b"",
        b"no pickle",
    ],
)
def test_pickles_written_by_hand_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SafsError):
        unpickle.load(content)
    assert not list(tmp_path.iterdir())
    assert unpickle.load(pickle.dumps(np.arange(3))).tolist() == [0, 1, 2]


# --- ImageNet-16 ------------------------------------------------------------------------------


def imagenet_batches(folder, *, npz=False, keys=str, count=5, seed=0):
    """All eleven batch files with ``count`` images each; returns the training images."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    images = []
    for name in (*batches.NAMES["train"], *batches.NAMES["test"]):
        data = draw.integers(0, 256, (count, 768), dtype=np.uint8)
        labels = draw.integers(1, 1001, count)
        labels[:2] = 1, 1000
        if npz:
            np.savez(folder / f"{name}.npz", data=data, labels=labels, mean=np.zeros(768))
        else:
            batch = {
                keys("data"): data,
                keys("labels"): labels.tolist(),
                keys("mean"): np.zeros(768),
            }
            (folder / name).write_bytes(pickle.dumps(batch))
        images.append(data)
    return np.concatenate(images[:-1]).reshape(-1, 3, 16, 16)


@pytest.mark.parametrize(
    "options", [{}, {"npz": True}, {"keys": str.encode}], ids=["pickle", "npz", "bytes"]
)
def test_imagenet16_batches(tmp_path, options):
    expected = imagenet_batches(tmp_path / "imagenet16", **options)
    train, test = (load_part("imagenet16", part, tmp_path) for part in ("train", "test"))
    assert isinstance(train.images, np.memmap) and not train.images.flags.writeable
    assert np.array_equal(train.images, expected) and test.images.shape == (5, 3, 16, 16)
    assert train.labels.dtype == np.int64
    assert train.labels.min() == 0 and train.labels.max() == 999
    in_memory = Arrays(expected, np.array(train.labels))
    assert train.checksum() == in_memory.checksum()


def test_imagenet16_folds_hold_out_a_25th(tmp_path):
    imagenet_batches(tmp_path / "imagenet16", count=20)
    fold = load_fold("imagenet16", 3, 0, torch.device("cpu"), tmp_path)
    assert (len(fold.train), len(fold.validation)) == (192, 8)
    assert fold.augmentation == Augmentation(pad=2, flip=True)
    assert len(load_test("imagenet16", torch.device("cpu"), tmp_path)) == 20


def conversions(monkeypatch):
    calls = []
    convert = store._convert
    monkeypatch.setattr(store, "_convert", lambda *a: (calls.append(a[1]), convert(*a)))
    return calls


def test_conversion_happens_once_and_again_when_a_source_changes(tmp_path, monkeypatch):
    calls = conversions(monkeypatch)
    folder = tmp_path / "imagenet16"
    imagenet_batches(folder)
    first = imagenet16.load("train", tmp_path)
    before = first.checksum()
    imagenet16.load("train", tmp_path)
    assert calls == ["train"]

    os.utime(folder / "train_data_batch_3", (1, 1))  # touched: recognised by its checksum
    hashes = []
    monkeypatch.setattr(store, "_sha256", lambda p, f=store._sha256: (hashes.append(p), f(p))[1])
    assert imagenet16.load("train", tmp_path).checksum() == before
    assert calls == ["train"] and len(hashes) == 10
    imagenet16.load("train", tmp_path)
    assert len(hashes) == 10

    imagenet_batches(folder, seed=1)
    assert imagenet16.load("train", tmp_path).checksum() != before
    assert calls == ["train", "train"]
    assert first.checksum() == before  # the old mapping still shows the old images
    names = sorted(path.name for path in (folder / "store").iterdir())
    assert names == ["train.json", "train_images.npy", "train_labels.npy"]


def full(temporary):
    """Let what is written to a temporary file meet a full disk."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.symlink_to("/dev/full")
    return temporary


def test_a_conversion_on_a_full_disk_is_one_line(tmp_path):
    """Mapped pages would end the process with SIGBUS instead."""
    folder = tmp_path / "imagenet16"
    imagenet_batches(folder)
    target = folder / "store/train_images.npy"
    full(target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}"))
    with pytest.raises(SafsError) as caught:
        imagenet16.load("train", tmp_path)
    assert str(caught.value) == f"cannot write: {target}: No space left on device"
    assert not store.exists(folder, "train") and not list(target.parent.iterdir())


def test_a_batch_that_changes_while_it_is_converted_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "imagenet16"
    imagenet_batches(folder)
    read, calls = imagenet16.load.__globals__["_read"], []

    def shorter(path):
        calls.append(path)
        return tuple(each[: len(each) - (calls.count(path) > 1)] for each in read(path))

    monkeypatch.setitem(imagenet16.load.__globals__, "_read", shorter)
    with pytest.raises(SafsError, match=r"train_data_batch_\d+: changed while it was read"):
        imagenet16.load("train", tmp_path)
    assert not store.exists(folder, "train")


def test_the_store_alone_will_do(tmp_path):
    folder = tmp_path / "imagenet16"
    imagenet_batches(folder)
    before = imagenet16.load("train", tmp_path).checksum()
    for path in folder.glob("*batch*"):
        path.unlink()
    assert imagenet16.load("train", tmp_path).checksum() == before
    (folder / "store" / "train_labels.npy").unlink()
    with pytest.raises(SafsError, match="missing data"):
        imagenet16.load("train", tmp_path)


def test_a_missing_batch_is_named_also_where_others_are(tmp_path):
    imagenet_batches(tmp_path / "imagenet16")
    imagenet16.load("train", tmp_path)
    (tmp_path / "imagenet16/train_data_batch_7").unlink()
    with pytest.raises(SafsError, match=r"put train_data_batch_7 \("):
        imagenet16.load("train", tmp_path)


def test_a_conversion_that_was_killed_counts_for_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "imagenet16"
    imagenet_batches(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "_labels", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        imagenet16.load("train", tmp_path)
    assert not store.exists(folder, "train")
    assert len(imagenet16.load("train", tmp_path).labels) == 50


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"labels": [0, 1, 2]}, "a label lies outside 1..1000"),
        ({"labels": [1, 2, 1001]}, "a label lies outside 1..1000"),
        ({"labels": [1, 2]}, "expected uint8 \\[2, 768\\]"),
        ({"data": np.zeros((3, 768))}, "float64"),
        ({"data": np.zeros((3, 3072), np.uint8)}, "expected uint8"),
        ({"data": Reduced(os.system, "touch owned")}, "refused: the pickle names"),
        ({"data": np.zeros((0, 768), np.uint8), "labels": []}, "expected uint8"),
        ({"data": [[0] * 768] * 3}, "not a batch with data and labels"),
        ({"labels": shared_lists(30)}, "not a batch with data and labels"),
        ({"labels": [10**30] * 3}, "not a batch with data and labels"),
        ({"labels": [True, 2, 3]}, "not a batch with data and labels"),
        ({"labels": [1, -2, 3]}, "a label lies outside 1..1000"),
        ({"labels": ["1", "2", "3"]}, "not a batch with data and labels"),
        ({"labels": np.array([1.0, 2.0, np.nan])}, "labels are float64"),
        ({"labels": np.array([True, False, True])}, "labels are bool"),
        ({"labels": np.array([[1], [2], [3]])}, r"labels are int64 \(3, 1\)"),
    ],
)
def test_wrong_batches_are_refused(tmp_path, change, complaint):
    batch = {"data": np.zeros((3, 768), np.uint8), "labels": [1, 2, 3], **change}
    imagenet_batches(tmp_path / "imagenet16")
    (tmp_path / "imagenet16/val_data").write_bytes(pickle.dumps(batch))
    with pytest.raises(SafsError, match=f"val_data: .*{complaint}"):
        imagenet16.load("test", tmp_path)


def test_an_npz_with_objects_is_refused(tmp_path):
    imagenet_batches(tmp_path / "imagenet16", npz=True)
    objects = np.array([Reduced(os.system, "touch owned")], dtype=object)
    np.savez(tmp_path / "imagenet16/val_data.npz", data=objects, labels=[1])
    with pytest.raises(SafsError, match=r"val_data\.npz: not an \.npz file of arrays"):
        imagenet16.load("test", tmp_path)


def npz(**members):
    """An .npz file of raw members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(array=None, shape=None, dtype="|u1"):
    """An array as .npy; or a header alone, whatever it declares."""
    stream = io.BytesIO()
    if array is not None:
        np.save(stream, array)
    else:
        header = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an .npz file"),
        (b"PK\x03\x04garbage", "not an .npz file"),
        (npz(), "not a batch with data and labels"),
        (npz(data=b"", labels=b""), "not an .npz file"),
        (npz(data=npy(shape=(2**40, 768)), labels=npy(np.array([1]))), "not an .npz file"),
        (npz(data=npy(shape=(-1, 768)), labels=npy(np.array([1]))), "not an .npz file"),
        (npz(data=npy(shape=(3, 768)), labels=npy(np.array([1]))), "not an .npz file"),
        (npz(data=bytes(20_000), labels=npy(np.array([1]))), "20000 bytes, at most 10000"),
        (npz(data=npy(np.zeros((1, 768))), labels=npy(np.array([1]))), "float64"),
        (npz(data=npy(np.zeros((1, 768), np.uint8)), labels=npy(np.array([0.5]))), "float64"),
    ],
)
def test_an_npz_is_what_it_declares(tmp_path, monkeypatch, content, words):
    imagenet_batches(tmp_path / "imagenet16", npz=True)
    monkeypatch.setattr(batches, "MAX_BYTES", 10_000)
    (tmp_path / "imagenet16/val_data.npz").write_bytes(content)
    with pytest.raises(SafsError, match=words) as caught:
        imagenet16.load("test", tmp_path)
    assert "\n" not in str(caught.value)


def test_imagenet16_directly_in_the_data_directory(tmp_path):
    imagenet_batches(tmp_path)
    assert len(imagenet16.load("train", tmp_path).labels) == 50


# --- downsampling -----------------------------------------------------------------------------


def image_folder(root, classes=("n02", "n01"), per_class=6):
    for part in ("train", "val"):
        for number, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(per_class):
                pixels = np.full((32 + i, 48, 3), 100 * number + i, np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")


def test_an_image_is_resized_as_a_whole_by_box_filter(tmp_path):
    pixels = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = pixels.reshape(16, 2, 16, 4, 3).mean((1, 3)).transpose(2, 0, 1).reshape(-1)
    assert np.abs(shrink(tmp_path / "a.png", 16) - expected).max() <= 1
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png")
    planes = shrink(tmp_path / "grey.png", 16).reshape(3, -1)
    assert np.array_equal(planes[0], planes[1]) and np.array_equal(planes[0], planes[2])


def test_a_folder_of_images_becomes_batches_that_load(tmp_path):
    image_folder(tmp_path / "images", per_class=10)
    target = tmp_path / "data" / "imagenet16"
    written = downsample(tmp_path / "images", target, 16)
    assert list(written) == [*batches.NAMES["train"], "val_data"]
    assert sum(written.values()) == 40 and set(written.values()) == {2, 20}
    train = load_part("imagenet16", "train", tmp_path / "data")
    assert train.images.shape == (20, 3, 16, 16)
    means = {label: sorted(train.images[train.labels == label].mean((1, 2, 3))) for label in (0, 1)}
    assert means == {0: [100 + i for i in range(10)], 1: list(range(10))}  # n01 sorts first
    batch = unpickle.load((target / "train_data_batch_1").read_bytes())
    assert batch["mean"].shape == (768,) and batch["mean"][0] == pytest.approx(54.5)
    assert sorted(path.name for path in target.iterdir()) == sorted([*written, "store"])


def test_downsampling_on_a_full_disk_names_the_file(tmp_path, monkeypatch):
    image_folder(tmp_path / "images", per_class=10)
    place = full(tmp_path / "pixels/train")
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **_: nullcontext(place.parent))
    with pytest.raises(OSError) as caught:
        downsample(tmp_path / "images", tmp_path / "out")
    assert one_line(caught.value) == f"{place}: No space left on device"


def test_the_order_of_classes_can_be_given(tmp_path, capsys):
    image_folder(tmp_path / "images", per_class=1)
    order = tmp_path / "classes.txt"
    order.write_text("n02 1 dog\nn01 2 cat\n")
    command = [str(tmp_path / "images"), str(tmp_path / "out"), "--size", "8", "--workers", "2"]
    assert main([*command, "--order", str(order)]) == 0
    data, labels = batches.read(tmp_path / "out" / "val_data")
    assert data.shape == (2, 192) and dict(zip(labels, data[:, 0], strict=True)) == {1: 0, 2: 100}
    assert "val_data: 2 images" in capsys.readouterr().out
    order.write_text("n01\n")
    assert main([*command, "--order", str(order)]) == 1
    assert "class 'n02' has no place" in capsys.readouterr().err


def test_downsampling_says_what_it_expects(tmp_path):
    with pytest.raises(SafsError, match="expected a folder train or val"):
        downsample(tmp_path, tmp_path / "out")
    (tmp_path / "val").mkdir()
    with pytest.raises(SafsError, match="a folder for each class"):
        downsample(tmp_path, tmp_path / "out")
    (tmp_path / "val/n01").mkdir()
    (tmp_path / "val/n01/readme.txt").write_text("no image")
    with pytest.raises(SafsError, match=r"readme\.txt: not an image"):
        downsample(tmp_path, tmp_path / "out")


def test_downsample_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "safs.datasets.downsample", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "SRC" in done.stdout and not done.stderr


# --- every data set ---------------------------------------------------------------------------

every_data_set = pytest.mark.parametrize("name", DATASETS)


@every_data_set
def test_every_data_set_declares_what_fits_together(name):
    entry = DATASETS[name]
    channels, height, width = entry.shape
    assert min(channels, height, width) >= 1 and min(entry.classes, entry.folds) >= 2
    assert len(entry.mean) == len(entry.std) and len(entry.mean) in (0, channels)
    assert all(std > 0 for std in entry.std)
    assert [other.label for other in DATASETS.values()].count(entry.label) == 1


@every_data_set
def test_every_data_set_loads_or_says_which_files_it_lacks(name, tmp_path):
    """Of one that needs files this sees only that it says so."""
    entry, directory = DATASETS[name], tmp_path / "data"
    try:
        train, test = (load_part(name, part, directory) for part in ("train", "test"))
    except SafsError as error:
        assert_says_what_to_put_where(error, directory)
        return
    for arrays, part in ((train, "train"), (test, "test")):
        assert arrays.labels.dtype == np.int64 and len(arrays.labels) == len(arrays.images)
        assert set(arrays.labels) == set(range(entry.classes))
        assert entry.load(part, directory).checksum() == arrays.checksum()
    for replicate in range(entry.folds):
        fold = load_fold(name, replicate, 0, torch.device("cpu"), directory)
        assert len(fold.train) + len(fold.validation) == len(train.labels)
        assert set(fold.train.labels.tolist()) == set(range(entry.classes))
        assert len(fold.validation) > 0


@pytest.mark.parametrize(
    ("name", "shape", "classes", "folds", "augmentation"),
    [
        ("mnist", (1, 28, 28), 10, 6, Augmentation()),
        ("fashion_mnist", (1, 28, 28), 10, 6, Augmentation()),
        ("fashion_mnist_rgb32", (3, 32, 32), 10, 6, Augmentation()),
        ("fashion_mnist_rgb16", (3, 16, 16), 10, 6, Augmentation()),
        ("cifar10", (3, 32, 32), 10, 3, Augmentation(pad=4, flip=True)),
        ("imagenet16", (3, 16, 16), 1000, 25, Augmentation(pad=2, flip=True)),
        ("generated_cifar", (3, 32, 32), 10, 3, Augmentation(pad=4, flip=True)),
        ("generated_imagenet16", (3, 16, 16), 20, 3, Augmentation(pad=2, flip=True)),
    ],
)
def test_the_protocols_folds_and_augmentation(name, shape, classes, folds, augmentation):
    entry = DATASETS[name]
    assert (entry.shape, entry.classes, entry.folds) == (shape, classes, folds)
    assert entry.augmentation == augmentation
    assert len(entry.mean) == len(entry.std) == (3 if shape[0] == 3 else 0)


def test_naming_the_data_sets_needs_no_torch():
    code = "import safs.datasets, sys; sys.exit(bool({'torch', 'torchvision'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_folds_of_full_size_are_the_protocols():
    for count, classes, folds, sizes in (
        (60_000, 10, 6, {10_000}),
        (50_000, 10, 3, {16_666, 16_667}),
    ):
        held = np.bincount(partition(np.arange(count) % classes, folds, 0))
        assert set(held.tolist()) == sizes


@pytest.mark.parametrize("name", ["generated_cifar", "generated_imagenet16"])
def test_generated_images_have_the_shape_of_the_real_ones(name):
    entry = DATASETS[name]
    train, test = load_part(name, "train"), load_part(name, "test")
    assert train.images.shape == (24 * entry.classes, *entry.shape)
    assert test.images.shape == (6 * entry.classes, *entry.shape)
    fold = load_fold(name, 0, 0, torch.device("cpu"))
    assert fold.train.normalised(slice(None)).abs().max() <= 2
