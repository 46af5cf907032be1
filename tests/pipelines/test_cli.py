"""The command line, also where torch is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import main as cli
from pipelines.config.study import load
from pipelines.dvc import launch
from pipelines.engine.layout import trained_in
from pipelines.plan import steps
from safs.errors import SafsError

ROOT = Path(__file__).parents[2]

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "smac", "dvc", "distributed"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
from pipelines.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without_torch(*arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_works_without_torch():
    done = without_torch("--help")
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("run", "plan", "show", "validate"))


def test_validate_works_without_torch(tmp_path):
    bad = tmp_path / "record.json"
    bad.write_text('{"schema": 1}')
    done = without_torch("validate", str(bad))
    assert done.returncode == 2
    assert f"{bad}: missing key 'pair'" in done.stderr and "Traceback" not in done.stderr


def test_plan_counts_without_torch():
    done = without_torch("plan", "mnist5k", "--no-measure")
    assert done.returncode == 0, done.stderr
    assert "search" in done.stdout and "tune" in done.stdout


@pytest.mark.parametrize("arguments", [["plan", "quik"], ["run", "quik"], ["show", "quik"]])
def test_a_misspelt_profile_is_one_line_and_code_2(arguments, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "did you mean 'quick'" in error


def test_nothing_is_removed_outside_of_a_checkout(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thesis = tmp_path / "scratch/thesis.txt"
    thesis.parent.mkdir()
    thesis.touch()
    assert cli.main(["clean"]) == 2
    assert thesis.exists() and "expected the root of a checkout" in capsys.readouterr().err
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "pipelines").mkdir()
    assert cli.main(["clean"]) == 0
    assert not thesis.parent.exists()
    assert capsys.readouterr().out == f"removed {thesis.parent}\n"
    assert cli.main(["clean"]) == 0


def test_an_interrupted_run_says_so_in_a_line(capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launch, "launch", interrupted)
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from here\n"


def test_a_reader_that_leaves_early_is_no_fault():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pipelines.cli.main", "plan", "mnist5k", "--no-measure"]
    done = subprocess.run(
        command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_profile_without_its_graph_is_told_how_to_get_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    study = load(Path("params.yaml"))
    alone = study.profile.model_copy(update={"params_file": "elsewhere/params.yaml"})
    with pytest.raises(SafsError, match=r"elsewhere/dvc\.yaml: no such file; `make graph`"):
        launch.launch(study.model_copy(update={"profile": alone}))


def test_plan_of_the_papers_budgets_by_hand():
    """40 cells: 2 baselines; 21 candidates, 13 operators everywhere and a final run; tuned arms.

    Of these seven, six have 20 trials and one has 41; each has a final run.
    """
    study = load(Path("pipelines/profiles/mnist5k/params.yaml"), ROOT)
    assert sum(trained_in(arm) == "tune" for arm in study.profile.arms) == 7
    halved = (21 * 4 + 7 * 8 + 3 * 20) + (20 * 4 + 7 * 8 + 3 * 20)
    found = {step.stage: (step.trainings, step.epochs) for step in steps(study)}
    assert found == {
        "pretrain": (10, 1000),
        "baselines": (80, 8000),
        "search": (40 * (21 + 13 + 1), 40 * ((21 + 13) * 80 + 100)),
        "tune": (40 * (6 * 21 + 42), 40 * (6 * (20 * 80 + 100) + 41 * 80 + 100)),
        "fast": (40 * (21 + 7 + 3 + 20 + 7 + 3 + 1), 40 * (halved + 100)),
        "activations": (40 * 6, 40 * 6 * 100),
        "algorithms": (10 * 3 * 21, 10 * 3 * 21 * 80),
    }
