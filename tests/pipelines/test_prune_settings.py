"""Every pruning method and scope runs as a parameter of a pair."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.config.pair import Prune
from pipelines.tasks import pruning
from pipelines.tasks.shared import empty
from safs.errors import SafsError
from safs.pruning import scopes
from safs.pruning.prune import prune
from safs.pruning.pruners import PRUNERS
from safs.spec import NetworkSpec

SPEC, DATASET = NetworkSpec(name="lenet5"), "generated_digits"
METHODS = sorted(set(PRUNERS) - {"given"})


@pytest.fixture
def dense(tmp_path):
    torch.set_num_threads(1)
    path = tmp_path / "dense.safetensors"
    save_file(empty(SPEC, DATASET).state_dict(), path)
    return path


def masks(dense, settings, replicate=0, given=None):
    target = dense.parent / "mask.safetensors"
    made = pruning.prune(SPEC, DATASET, dense, 0.9, settings, (7, replicate), target, given)
    mask = load_file(target)
    assert {n: layer["kept"] for n, layer in made["layers"].items()} == {
        name: int(keep.sum()) for name, keep in mask.items()
    }
    return mask


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs(dense, method):
    mask = masks(dense, Prune(method=method, scope="global", images=16))
    total = sum(keep.numel() for keep in mask.values())
    assert sum(int(keep.sum()) for keep in mask.values()) == scopes.kept(total, 0.9)


def test_what_is_drawn_belongs_to_the_replicate(dense):
    for settings in (Prune(method="random"), Prune(method="snip", images=16)):
        one, again, other = (masks(dense, settings, replicate=r) for r in (0, 0, 1))
        assert torch.equal(one["fc1"], again["fc1"])
        assert not torch.equal(one["fc1"], other["fc1"])


def test_a_given_file_is_used_and_has_to_have_the_cells_ratio(dense, tmp_path):
    network = empty(SPEC, DATASET)
    for ratio in (0.9, 0.5):
        mask = prune(network, ratio)
        save_file({n: k.to(torch.uint8) for n, k in mask.items()}, tmp_path / f"{ratio}-r0.st")
    settings = Prune(method="given", given=str(tmp_path / "{ratio}-r{replicate}.safetensors"))
    for ratio in (0.9, 0.5):
        (tmp_path / f"{ratio}-r0.st").rename(settings.given_file(0, ratio))
    found = masks(dense, settings, given=settings.given_file(0, 0.9))
    assert torch.equal(found["fc1"].bool(), prune(network, 0.9)["fc1"])
    with pytest.raises(SafsError, match=r"the stated ratio is 0\.9"):
        masks(dense, settings, given=settings.given_file(0, 0.5))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "snap"}, "did you mean 'snip'"),
        ({"scope": "channel"}, "known: layerwise, global, keep_ends"),
        ({"method": "given"}, "given is the mask file"),
        ({"given": "m.safetensors"}, "given is the mask file"),
        ({"method": "given", "given": "{seed}.safetensors"}, r"takes \{replicate\} and \{ratio\}"),
        ({"images": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_are_checked_before_anything_runs(values, message):
    with pytest.raises(SafsError, match=message):
        Prune(**values)


def test_the_defaults_are_registered():
    assert Prune().scope in scopes.SCOPES and Prune().method in PRUNERS
