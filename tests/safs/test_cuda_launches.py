"""What a training step asks of the device: launches, copies and waits, on the simulated one.

`PYTHONPATH=.:tests python -m simulated.launches` prints the table for all optimisers.
"""

import pytest
from simulated.launches import NARROW, epoch, per_step, table

BUDGET = {"lenet5": 82, "vgg16": 216, "resnet18": 275, "efficientnet_b0": 834}
"""Launches and copies to the device of one SGD step; TAdam may take half as many again."""
TADAM = 1.5
COUNTED = {}


@pytest.mark.parametrize(
    "name, optimizer, budget",
    [
        *((name, "sgd", budget) for name, budget in BUDGET.items()),
        *((name, "tadam", TADAM * budget) for name, budget in BUDGET.items()),
    ],
)
def test_launches_per_step_keep_to_their_budget(simulated, name, optimizer, budget):
    found = per_step(simulated, name, optimizer)
    print(table([found]))
    assert found.total <= budget


@pytest.fixture
def epochs(simulated):
    """Counts of epochs by network and number of steps, each counted once."""

    def counted(name, steps):
        if (name, steps) not in COUNTED:
            COUNTED[name, steps] = epoch(simulated, name, steps=steps)
        return COUNTED[name, steps]

    return counted


@pytest.mark.parametrize("name", ["lenet5", "vgg16"])
def test_a_longer_epoch_copies_no_more(epochs, name):
    """Order, shifts and flips of an epoch go to the device at once."""
    short, long = (epochs(name, steps) for steps in (2, 4))
    assert long.to_device == short.to_device


@pytest.mark.parametrize("name", ["lenet5", "vgg16"])
def test_a_longer_epoch_waits_no_more(epochs, name):
    """Sums stay on the device until the epoch ends."""
    short, long = (epochs(name, steps) for steps in (2, 4))
    assert long.waits == short.waits and long.to_host == short.to_host
    assert long.launches > short.launches


def test_the_width_changes_no_launch(simulated, epochs, monkeypatch):
    """So that what narrow networks are counted to launch holds for the whole ones."""
    narrow = epochs("vgg16", 2)
    monkeypatch.setitem(NARROW, "vgg16", {"width": 1 / 8})
    assert epoch(simulated, "vgg16").operators == narrow.operators
