"""ONNX files compute what torch computes, for every operator, and say what is missing."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from safs import slots
from safs.api import export
from safs.errors import SafsError
from safs.masks import apply
from safs.networks import build, prunable
from safs.operators import OPERATORS
from safs.pruning.prune import prune

SHAPE = (1, 12, 12)

try:
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401
except ImportError as error:
    needs_extra = pytest.mark.skip(f"the extra `export` is not installed: {error}")
else:
    needs_extra = pytest.mark.filterwarnings("default")


class Everything(nn.Module):
    """Every operator on the same features, side by side."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3)
        self.acts = nn.ModuleList(nn.ReLU() for _ in OPERATORS)
        self.head = nn.Linear(3 * len(OPERATORS), 5)

    def forward(self, x):
        x = self.stem(x)
        pooled = [act(x).mean((2, 3)) for act in self.acts]
        return torch.cat([self.head(torch.cat(pooled, 1)), *pooled], 1)


@pytest.fixture(scope="module")
def everything():
    torch.manual_seed(0)
    network = slots.install(Everything(), torch.zeros(2, *SHAPE), "relu")
    slots.fill(network, list(OPERATORS), scaled=True)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for slot in slots.slots(network).values():
            for parameter in slot.parameters():
                parameter.mul_(float(rng.uniform(0.6, 1.4))).add_(float(rng.uniform(0, 0.2)))
    return network


@needs_extra
def test_every_operator_is_folded_to_plain_arithmetic(everything, tmp_path):
    done = export.export(everything, SHAPE, tmp_path / "new")
    assert done.difference <= export.TOLERANCE
    model = onnx.load(done.onnx)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(str(done.onnx), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input"]
    x = torch.randn(9, *SHAPE)
    found = session.run(["logits"], {"input": x.numpy()})[0]
    with torch.no_grad():
        expected = everything.eval()(x).numpy()
    # Column by column: no operator hides behind another's scale.
    assert np.abs(found - expected).max(0) == pytest.approx(0, abs=1e-5)


@needs_extra
def test_pruned_weights_stay_zeros_and_the_network_stays_as_it_was(tmp_path):
    network = build("lenet5", (1, 28, 28), 10)
    mask = prune(network, 0.95)
    apply(mask, network)
    network.train()
    done = export.export(network, (1, 28, 28), tmp_path)
    assert network.training and all(p.requires_grad for p in network.parameters())
    stored = load_file(done.weights)
    assert all(torch.equal(stored[name], value) for name, value in network.state_dict().items())
    constants = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(done.onnx).graph.initializer
    }
    sizes = [array for array in constants.values() if array.ndim >= 2 and array.size > 100]
    assert sum((a != 0).sum() for a in sizes) <= sum(int(k.sum()) for k in mask.values())
    assert len(sizes) == len(prunable(network))


@needs_extra
def test_the_comparison_sees_a_difference_and_leaves_no_wrong_file(tmp_path, monkeypatch):
    network, path = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval(), tmp_path / "model.onnx"
    export.to_onnx(network, (3,), path)
    with torch.no_grad():
        network[0].bias += 0.01
    assert export.compare(network, (3,), path) > export.TOLERANCE
    written = path.read_bytes()

    def refuse(*_):
        raise RuntimeError("no kernel for Relu(14)")

    for check, words in (
        (lambda *_: float("nan"), "onnxruntime and torch differ by nan"),
        (refuse, r"onnxruntime cannot run Sequential: no kernel for Relu\(14\)"),
    ):
        monkeypatch.setattr(export, "compare", check)
        with pytest.raises(SafsError, match=words):
            export.to_onnx(network, (3,), path)
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == written


@needs_extra
def test_a_network_that_takes_no_noise_is_compared_on_an_example(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    network.register_forward_pre_hook(lambda _, inputs: (inputs[0].log(),))
    with pytest.raises(SafsError, match="differ by nan"):
        export.to_onnx(network, (4,), tmp_path / "model.onnx")
    example = torch.rand(3, 4) + 1
    assert export.to_onnx(network, (4,), tmp_path / "model.onnx", example) <= export.TOLERANCE
    with pytest.raises(SafsError, match=r"got \[3, 4\], expected inputs of the shape \[5\]"):
        export.to_onnx(network, (5,), tmp_path / "model.onnx", example)


def test_inputs_in_place_of_their_shape_are_told(tmp_path):
    with pytest.raises(SafsError, match=r"shape: got .*, expected that of one input"):
        export.to_onnx(nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "model.onnx")


@needs_extra
def test_what_torch_cannot_export_is_one_line(tmp_path):
    class Branches(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(SafsError, match="torch cannot export Branches") as caught:
        export.to_onnx(Branches(), (3,), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)


def test_without_the_extra_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        SafsError, match=r"needs the package onnx: pip install 'safs-bench\[export\]'"
    ):
        export.export(nn.Linear(2, 2), (2,), tmp_path / "new")
    assert not (tmp_path / "new").exists()
