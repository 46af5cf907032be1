"""Scores are means over images, ties count against the class, NaN is no luck."""

import numpy as np
import pytest
import torch
from torch import nn

from safs.training import evaluation
from safs.training.data import Images


class Fixed(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x):
        return self.logits[: len(x)]


def images(labels):
    n, one = len(labels), torch.ones(1, 1, 1)
    return Images(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), torch.tensor(labels), 0 * one, one)


def test_top1_top5_loss_and_bits():
    logits = np.zeros((3, 7), dtype=np.float32)
    logits[0, 2] = 5.0
    logits[1] = [6, 5, 4, 3, 2, 1, 0]
    logits[2] = [6, 5, 4, 3, 2, 1, 0]
    found = evaluation.score(Fixed(logits), images([2, 4, 5]))
    assert found.correct.tolist() == [True, False, False]
    assert found.top1 == pytest.approx(1 / 3) and found.top5 == pytest.approx(2 / 3)
    expected = nn.functional.cross_entropy(torch.tensor(logits), torch.tensor([2, 4, 5]))
    assert found.loss == pytest.approx(float(expected))


def test_ties_and_nan_are_wrong():
    tied = evaluation.score(Fixed([[1.0, 1.0, 0.0]]), images([0]))
    assert tied.top1 == 0 and tied.top5 == 1
    broken = evaluation.score(Fixed([[float("nan")] * 3]), images([0]))
    assert broken.top1 == 0 and broken.top5 == 0 and np.isnan(broken.loss)


def test_mode_is_restored_and_evaluation_mode_used():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(4, 3)).train()
    first = evaluation.score(network, images([0, 1]))
    assert network.training
    assert first.loss == evaluation.score(network, images([0, 1])).loss
