"""Splits, folds, batches and augmentation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safs.datasets import DATASETS, Augmentation, dataset, fold_of, load_part, partition
from safs.errors import SafsError
from safs.training.data import BatchOrder, Fold, Images, crop, load_fold, load_test

CPU = torch.device("cpu")


def test_mnist5k_has_the_protocols_sizes_and_is_stratified():
    train, test = load_part("mnist5k", "train"), load_part("mnist5k", "test")
    assert train.images.shape == (4000, 1, 28, 28) and test.images.shape == (1000, 1, 28, 28)
    assert np.bincount(train.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert train.images.max() == 255 and train.images.dtype == np.uint8


def test_mnist5k_is_fixed_and_its_parts_do_not_overlap():
    train, test = load_part("mnist5k", "train"), load_part("mnist5k", "test")
    assert train.checksum().startswith("40ba2a829281e328")
    assert test.checksum().startswith("a19cff2836f56a0e")
    rows = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in rows for image in test.images)


def test_folds_hold_out_800_stratified_images_and_cover_everything():
    held = []
    for replicate in range(5):
        fold = load_fold("mnist5k", replicate, 7, CPU)
        assert len(fold.train) == 3200 and len(fold.validation) == 800
        assert fold.validation.labels.bincount().tolist() == [80] * 10
        held.append({image.numpy().tobytes() for image in fold.validation.pixels})
        assert not held[-1] & {image.numpy().tobytes() for image in fold.train.pixels}
    assert sum(len(h) for h in held) == len(set().union(*held)) == 4000


@given(st.lists(st.integers(0, 4), min_size=10, max_size=80), st.integers(2, 5), st.integers(0, 9))
def test_partition_is_as_even_as_can_be(labels, folds, root):
    labels = np.array(labels)
    fold = partition(labels, folds, root)
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for label in np.unique(labels):
        per_fold = np.bincount(fold[labels == label], minlength=folds)
        assert per_fold.max() - per_fold.min() <= 1


def test_replicates_beyond_the_folds_come_round_again():
    assert [fold_of(r, 5) for r in (0, 4, 5, 9)] == [0, 4, 0, 4]


def _fold(n=10, augmentation=None, size=6):
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (n, 1, size, size), dtype=np.uint8))
    one = torch.ones(1, 1, 1)
    images = Images(pixels, torch.arange(n), 0 * one, one)
    return Fold(images, images, augmentation or Augmentation(), classes=n)


def test_every_image_comes_once_per_epoch_and_the_partial_batch_is_kept():
    fold = _fold(10)
    batches = list(BatchOrder(0, 0, "final").batches(fold, epoch=0, batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(10))
    for images, labels in batches:
        assert torch.equal(images, fold.train.pixels[labels].float() / 255)


def test_order_depends_on_replicate_phase_and_epoch_alone():
    def labels(replicate, phase, epoch, batch):
        order = BatchOrder(3, replicate, phase)
        return torch.cat([y for _, y in order.batches(_fold(), epoch, batch)]).tolist()

    assert labels(0, "final", 0, 4) == labels(0, "final", 0, 7)
    others = [labels(1, "final", 0, 4), labels(0, "search", 0, 4), labels(0, "final", 1, 4)]
    assert labels(0, "final", 0, 4) not in others


def test_finals_differ_in_batch_order_alone():
    fold = _fold(8, Augmentation(pad=2, flip=True))

    def epoch(final, replicate=0):
        order = BatchOrder(1, replicate, "final", final)
        ((images, labels),) = order.batches(fold, 3, 8)
        return labels.tolist(), images[labels.argsort()]

    orders = [epoch(final)[0] for final in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert all(torch.equal(epoch(0)[1], epoch(final)[1]) for final in range(5)), "same crops"
    assert epoch(0)[0] == BatchOrder(1, 0, "final").draw(fold, 3).order.tolist()
    assert epoch(2)[0] != epoch(2, replicate=1)[0]


def test_crop_moves_images_inside_a_zero_border():
    batch = torch.arange(1.0, 10.0).view(1, 1, 3, 3).repeat(3, 1, 1, 1)
    shift = torch.tensor([[1, 1], [0, 1], [2, 0]])
    same, down, up = crop(batch, shift, pad=1)[:, 0]
    assert torch.equal(same, batch[0, 0])
    assert down.tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert up.tolist() == [[0, 4, 5], [0, 7, 8], [0, 0, 0]]


def test_augmentation_is_seeded_and_differs_between_epochs():
    fold = _fold(8, Augmentation(pad=2, flip=True))

    def epoch(number):
        pairs = list(BatchOrder(1, 0, "dense").batches(fold, number, 8))
        return pairs[0][0][pairs[0][1].argsort()]

    assert torch.equal(epoch(0), epoch(0))
    assert not torch.equal(epoch(0), epoch(1))
    assert not torch.equal(epoch(0), fold.train.normalised(slice(None)))


def test_a_data_set_is_one_decorated_function_and_is_checked():
    @dataset(
        "made_up", label="Made up", shape=(1, 2, 2), classes=2, folds=2, mean=(0.5,), std=(0.25,)
    )
    def made_up(part, directory):
        from safs.datasets import Arrays

        wrong = directory is not None
        shape = (4, 1, 3, 3) if wrong else (4, 1, 2, 2)
        return Arrays(np.full(shape, 255, np.uint8), np.array([0, 1, 0, 1]))

    try:
        images = load_test("made_up", CPU)
        assert images.normalised(slice(None)).unique().tolist() == [2.0]
        with pytest.raises(SafsError, match=r"made_up.*expected uint8"):
            load_test("made_up", CPU, directory="elsewhere")
    finally:
        DATASETS.remove("made_up")


def test_an_unknown_data_set_names_the_nearest():
    with pytest.raises(SafsError, match="unknown data set 'mnist5'; did you mean 'mnist5k'"):
        load_part("mnist5", "train")
