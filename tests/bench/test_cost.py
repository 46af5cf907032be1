"""Cost: the paper's arithmetic, extrapolated hours, energy, history and its gate."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic import PAIR, collection, context

from bench.cost import arithmetic, energy, history, hours, view
from bench.cost.steps import Step, read
from bench.records.collection import Expected, collect
from safs.errors import SafsError

ROOT = Path(__file__).parents[2]
MACHINE = history.Machine(cpu="a processor", cores=2, platform="Linux")


def step(phase="final", ratio=0.99, backend="sparse", seconds=(0.1, 0.1, 0.1), **more):
    values = {"pair": PAIR, "phase": phase, "ratio": ratio, "backend": backend}
    values |= {"images": 100, "epoch_images": 100, "epoch_seconds": tuple(seconds)}
    counts = {"final": 20, "search": 84, "tune": 80, "dense": 40, "evaluation": 0}
    return Step(**(values | {"protocol_epochs": counts[phase]} | more))


def entry(scale=1.0, noise=0.01, **more):
    """Sparse steps of ``scale`` times .1 s against dense ones of 5 s, both as noisy."""
    around = [1 + noise * z for z in (-1, -0.5, 0, 0.5, 1)]
    sparse = [0.1 * scale * x for x in around]
    steps = [step(phase, seconds=sparse) for phase in ("final", "search", "tune")]
    steps.append(step(backend="dense", seconds=[5 * x for x in around]))
    values = {"commit": "a" * 10, "when": "2026-01-01T00:00:00+00:00", "machine": MACHINE}
    values |= {"steps": tuple(steps), "ratios": history.ratios(steps)}
    return history.Entry(**(values | more))


def test_table_3_by_hand():
    """LeNet-5: .16 hours for 100 epochs, so 20 candidates of 80 epochs take 2.56 hours."""
    rows = {(r["pair"], r["arm"], r["reading"]): r for r in arithmetic.rows()}
    one = rows["lenet5_mnist", "safs", "stage 1, one fold"]
    assert one["hours"] == pytest.approx(1600 * 0.0016) and one["implied"] == pytest.approx(4000)
    both = rows["resnet18_cifar10", "safs", "both stages and the final training, one fold"]
    assert both["hours"] == pytest.approx((1600 + 1600 + 200) * 0.02) and both["fits"]
    vgg = rows["vgg16_cifar10", "vanilla", "three folds"]
    assert vgg["hours"] == pytest.approx(3.75) and vgg["fits"]
    assert not any(
        row["fits"] for key, row in rows.items() if key[0] == "efficientnetb0_imagenet16"
    )


def test_table_3_says_where_it_does_not_fit():
    caption = arithmetic.table().caption
    assert "efficientnetb0_imagenet16 safs" in caption and "resnet18_cifar10 vanilla" in caption
    assert "No single reading fits all pairs' safs hours." in caption
    assert "No single reading fits all pairs' vanilla hours." in caption


def test_hours_are_extrapolated_from_epochs_and_the_error_is_printed(tmp_path):
    """Synthetic records took .1 s an epoch; steps of .12 s overestimate them by a fifth."""
    steps = [step(phase, seconds=(0.12,) * 3) for phase in ("final", "search", "tune")]
    table = hours.table(collection(tmp_path), context(), steps)
    row = table.frame.query("ratio == 0.99 and arm == 'safs'").iloc[0]
    assert row["hours"] == pytest.approx(18.4 / 3600)
    assert row["hours_extrapolated"] == pytest.approx(0.12 * 184 / 3600)
    assert row["error"] == pytest.approx(0.2) and "+20 %" in table.markdown()
    assert row["factor"] == pytest.approx(184 / 20) and row["paper_factor"] == pytest.approx(40)
    assert row["paper_co2"] == pytest.approx(6.4 / 24 * 1.45)
    other = table.frame.query("ratio == 0.9 and arm == 'safs'").iloc[0]
    assert np.isnan(other["hours_extrapolated"]), "nothing was timed at this ratio"
    runs = collection(tmp_path)
    wall = replace(runs, frame=runs.frame.assign(clock="wall", device="cpu"))
    rows = hours.table(wall, context(), []).frame.query("arm == 'safs'")
    assert rows["factor"].isna().all(), "wall clock on a CPU measures what else ran"


def test_energy_is_measured_modelled_or_not_measured_never_0(tmp_path):
    runs, about = collection(tmp_path), context()
    bare = [step(phase) for phase in ("final", "search", "tune")]
    counted = [step(phase, joules=36.0) for phase in ("final", "search", "tune")]

    def of(steps, watts=None):
        table = hours.table(runs, about, steps, watts)
        return table.frame.query("ratio == 0.99 and arm == 'safs'").iloc[0], table.markdown()

    row, text = of(bare)
    assert np.isnan(row["kwh"]) and row["energy"] == "not measured" and "not measured" in text
    row, _ = of(counted)
    assert row["energy"] == "measured" and row["kwh"] == pytest.approx(36 * 184 / 3.6e6)
    row, text = of(bare, watts=90.0)
    assert row["energy"] == "modelled" and row["kwh"] == pytest.approx(90 * 18.4 / 3.6e6)
    assert "90 W given" in text
    assert hours.intensity() == pytest.approx(1.45 / 3.36)


def test_what_no_record_tells_is_unknown_never_0():
    """Though every phase was timed, and the power of the device is given."""
    steps = [step(phase, joules=36.0) for phase in ("final", "search", "tune")]
    nothing = collect([Expected(PAIR, 0.99, 0, arm, Path("none")) for arm in ("vanilla", "safs")])
    table = hours.table(nothing, context(ratios=(0.99,)), steps, watts=90.0)
    numbers = table.frame[["epochs", "hours", "hours_extrapolated", "error", "kwh", "co2"]]
    assert numbers.isna().all(axis=None) and set(table.frame["energy"]) == {"not measured"}
    assert "0.0000" not in table.markdown()


def test_a_meter_reads_counters_and_their_overflow(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_nvml", list)
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "name").write_text("package-0\n")
    whole = tmp_path / "intel-rapl:1"  # the whole board, packages included
    whole.mkdir()
    (whole / "name").write_text("psys\n")
    (whole / "energy_uj").write_text("1000000\n")
    (package / "max_energy_range_uj").write_text("100000000\n")
    (package / "energy_uj").write_text("90000000\n")
    meter = energy.Meter(tmp_path)
    assert meter.source == "RAPL"
    (package / "energy_uj").write_text("95000000\n")
    assert meter.joules() == pytest.approx(5.0)
    (package / "energy_uj").write_text("10000000\n")
    assert meter.joules() == pytest.approx(20.0), "the counter started again from 0"


def test_without_counters_energy_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_nvml", list)
    meter = energy.Meter(tmp_path / "nothing")
    assert meter.source == "not measured" and meter.joules() is None


UUIDS = ("GPU-8932f937-d72c", "GPU-8a0b52c4-11f0", "GPU-c1d2e3f4-5a6b")


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("0,-1,1", [0]),
        ("0,7,1", [0]),
        (UUIDS[2], [2]),
        (f"GPU-8a,{UUIDS[0]}", [1, 0]),
        ("GPU-8", []),
        ("MIG-7e6c3f2d-0000", []),
        (f"MIG-{UUIDS[0]}/1/0", []),
    ],
)
def test_a_meter_counts_the_gpus_that_this_process_may_use(tmp_path, monkeypatch, visible, gpus):
    """Each GPU uses 1, 10 and 100 joules; what other people's do is not counted."""
    millijoules = [5e6, 6e6, 7e6]
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: len(UUIDS),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=UUIDS.__getitem__,
        nvmlDeviceGetTotalEnergyConsumption=millijoules.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = energy.Meter(tmp_path)
    for index in range(3):
        millijoules[index] += 1e3 * 10**index
    assert meter.source == ("NVML" if gpus else "not measured")
    assert meter.joules() == (sum(10**index for index in gpus) if gpus else None)


def test_steps_are_read_from_pytest_benchmark(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"benchmarks": [{"extra_info": step().model_dump(mode="json")}]}))
    assert read(path) == [step()]
    path.write_text(json.dumps({"benchmarks": [{"extra_info": {"pair": "x"}}]}))
    with pytest.raises(SafsError, match=r"extra_info: missing key 'phase'"):
        read(path)
    path.write_text("{}")
    with pytest.raises(SafsError, match="not a file of pytest-benchmark"):
        read(path)
    with pytest.raises(SafsError, match="make bench writes it"):
        read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch_seconds": [0]}, "epoch_seconds.0: got 0; expected greater than or equal to 0.0"),
        ({"epoch_seconds": [-1.0]}, "epoch_seconds.0: got -1.0; expected greater than"),
        ({"epoch_seconds": [1e300]}, "epoch_seconds.0: got 1e+300; expected less than"),
        ({"protocol_epochs": 10**30}, "protocol_epochs: got 1000"),
        ({"joules": -1.0}, "joules: got -1.0; expected greater than or equal to 0"),
    ],
)
def test_a_step_that_no_clock_can_have_told_is_refused(tmp_path, changes, words):
    path, info = tmp_path / "bench.json", step().model_dump(mode="json") | changes
    path.write_text(json.dumps({"benchmarks": [{"extra_info": info}]}))
    with pytest.raises(SafsError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: extra_info: {words}")


def test_a_final_training_without_epochs_is_no_denominator():
    steps = [step(phase, protocol_epochs=0) for phase in ("final", "search", "tune")]
    assert history.ratios(steps) == ()


UNREADABLE = {
    "nothing": (b"", "an empty file; expected 1 to"),
    "no text": (b"\xff", "not UTF-8 at byte 0"),
    "depth": (b"[" * 200_000, "nested too deeply to be read"),
    "no JSON": (b"{", "not JSON"),
}


@pytest.mark.parametrize(("content", "words"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("reading", [read, history.read])
def test_measurements_that_cannot_be_read_are_one_line(tmp_path, reading, content, words):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(SafsError) as caught:
        reading(path)
    line = str(caught.value)
    assert line.startswith(str(path)) and words in line and "\n" not in line


@pytest.mark.parametrize("reading", [read, history.read])
def test_a_pipe_in_the_place_of_measurements_is_refused_without_waiting(tmp_path, reading):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SafsError, match="pipe: not a regular file"):
        reading(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "ratios.0.name: got ''; expected match pattern"),
        ({"low": 2.0, "high": 1.0}, "ratios.0: got low 2, value 1.5, high 1; expected them in"),
    ],
)
def test_a_ratio_that_cannot_be_drawn_is_refused(tmp_path, changes, words):
    path, content = tmp_path / "entry.json", entry().model_dump(mode="json", by_alias=True)
    content["ratios"] = [{"name": "SAFS/vanilla", "value": 1.5, "low": 1.0, "high": 2.0} | changes]
    path.write_text(json.dumps(content))
    with pytest.raises(SafsError, match=re.escape(words)):
        history.read(path)


def test_an_entry_is_written_and_read_again(tmp_path):
    made = entry()
    path = made.write(tmp_path)
    assert path.name == f"aaaaaaaaaa-{MACHINE.digest}.json" and history.read(path) == made
    assert history.read_all(tmp_path) == [made]
    names = {ratio.name for ratio in made.ratios}
    assert names == {f"sparse/dense {PAIR} final 0.99", f"SAFS/vanilla {PAIR} 0.99"}
    whole = next(r for r in made.ratios if r.name.startswith("SAFS"))
    assert whole.value == pytest.approx(184 / 20) and whole.low < whole.value < whole.high


def test_each_device_has_an_entry_of_its_own(tmp_path):
    """One commit on one host: a CPU's and those of two kinds of GPU do not overwrite each other."""
    devices = (None, "NVIDIA A100", "NVIDIA H100")
    machines = [MACHINE.model_copy(update={"device": device}) for device in devices]
    paths = {entry(machine=machine).write(tmp_path) for machine in machines}
    assert len(paths) == 3 and tmp_path / f"aaaaaaaaaa-{MACHINE.digest}.json" in paths


def test_the_entries_here_have_the_names_that_they_would_have_today():
    for path in (ROOT / history.FOLDER).glob("*.json"):
        assert history.read(path).name == path.stem


@pytest.mark.parametrize(
    ("scale", "noise", "fails"),
    [
        (1.0, 0.01, False),
        (1.01, 0.01, False),
        (1.3, 0.01, True),
        (1.3, 0.8, False),
        (0.7, 0.01, False),
    ],
)
def test_the_gate_fails_beyond_noise_only(scale, noise, fails):
    worse = history.worsened(entry(noise=noise), entry(scale, noise))
    assert bool(worse) is fails


def test_a_machine_twice_as_slow_worsens_nothing():
    before, after = entry(), entry()
    slower = tuple(
        s.model_copy(update={"epoch_seconds": tuple(2 * x for x in s.epoch_seconds)})
        for s in after.steps
    )
    after = after.model_copy(update={"steps": slower, "ratios": history.ratios(slower)})
    assert history.worsened(before, after) == []
    assert "worse" not in view.diff_table(before, after).view[""].tolist()


def test_seconds_of_different_machines_are_not_compared():
    other = history.Machine(cpu="another", cores=64, platform="Linux")
    table = view.diff_table(entry(), entry(machine=other))
    assert not table.frame["what"].str.startswith("s/epoch").any()
    assert table.frame["what"].str.startswith("sparse/dense").any()
    same = view.diff_table(entry(), entry())
    assert same.frame["what"].str.startswith("s/epoch").any()


def test_the_trend_is_drawn(tmp_path):
    entries = [entry(), entry(1.2, commit="b" * 10)]
    text = view.trend(entries, tmp_path / "trend.svg").read_text()
    for word in ("aaaaaaa", "bbbbbbb", "sparse/dense", "SAFS/vanilla", f"{PAIR} final 0.99"):
        assert f">{word}</text>" in text


def test_steps_become_hours_and_speed():
    table = view.steps_table([step(seconds=(0.5, 0.4, 0.6), peak_memory=2**20)])
    row = table.frame.iloc[0]
    assert row["seconds"] == 0.5 and row["samples_per_second"] == 200
    assert row["hours"] == pytest.approx(20 * 0.5 / 3600)
    assert "not measured" in table.markdown()


def test_a_changed_tree_does_not_replace_the_commits_own_entry():
    names = {entry(commit=commit).name for commit in ("0123456789ab", "0123456789ab-dirty")}
    assert len(names) == 2
