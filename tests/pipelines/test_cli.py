"""The command line, also where torch is not installed."""

import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.report import terminal
from pipelines import __main__ as stages
from pipelines import compute
from pipelines.acceptance import run as acceptance
from pipelines.cli import main as cli
from pipelines.cli import runs
from pipelines.config.study import load
from pipelines.dvc import launch, narrow
from pipelines.dvc.plan import steps
from pipelines.results import publishing
from pipelines.stages import PER_CELL
from pipelines.storage.layout import trained_in
from pipelines.verification import checking, verifying
from safs.errors import SafsError

ROOT = Path(__file__).parents[2]

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "smac", "dvc", "distributed",
                                      "psutil"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocked())
from pipelines.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def without_torch(*arguments, at=ROOT):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        cwd=at,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
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
    bad.write_text('{"schema": 2}')
    done = without_torch("validate", str(bad))
    assert done.returncode == 2
    assert f"{bad}: missing key 'pair'" in done.stderr and "Traceback" not in done.stderr


def test_rebuild_works_without_torch(checkout):
    for name in ("quick", "labs"):
        shutil.copytree(ROOT / "results" / name, f"results/{name}")
    done = without_torch("rebuild", "quick", at=checkout)
    assert done.returncode == 0, done.stderr
    files = [path for path in Path("results/quick").rglob("*") if path.is_file()]
    assert done.stdout == f"{len(files)} files, {len(files)} as they were\n"


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


CELLS = "unknown cell 'nosuch'; known: lenet5_mnist5k-0.90, "


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "got nothing; expected STAGE PARAMS_FILE [CELL]"),
        ("search", "got 'search'; expected STAGE PARAMS_FILE [CELL]"),
        ("serch params.yaml", "unknown stage 'serch'; did you mean 'search'?"),
        ("search parms.yaml", "parms.yaml: no such file"),
        ("search params.yaml", "search: got nothing behind the parameters; expected a cell"),
        ("search params.yaml nosuch", CELLS),
        ("search params.yaml a b", "search: got 'a b' behind the parameters; expected a cell"),
        ("pretrain params.yaml lenet5", "unknown pair 'lenet5'; did you mean 'lenet5_mnist5k'?"),
        ("pretrain params.yaml lenet5_mnist5k 0.9", "pretrain: got 'lenet5_mnist5k 0.9' behind"),
        ("evaluate params.yaml", "evaluate: got nothing behind the parameters; expected a pair"),
        ("evaluate params.yaml lenet5_mnist5k abc", "unknown ratio 'abc'; known: 0.9, 0.95, 0.99"),
        ("evaluate params.yaml lenet5_mnist5k 0.5", "unknown ratio '0.5'"),
        ("sums params.yaml extra", "sums: got 'extra' behind the parameters; expected nothing"),
    ],
)
def test_a_stage_that_is_asked_for_wrongly_is_one_line_and_code_2(words, line, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(stages, "importlib", None)
    assert stages.main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {line}") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("sums", ()),
        ("pretrain lenet5_mnist5k", ("lenet5_mnist5k",)),
        ("evaluate lenet5_mnist5k 0.90 0.99", ("lenet5_mnist5k", 0.9, 0.99)),
        ("search lenet5_mnist5k-0.90", ("lenet5_mnist5k", 0.9)),
    ],
)
def test_a_stage_is_given_its_cell(words, place, monkeypatch):
    given = []
    stage = SimpleNamespace(run=lambda study, *place: given.append(place))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(stages, "importlib", SimpleNamespace(import_module=lambda name: stage))
    name, *cell = words.split()
    assert stages.main([name, "params.yaml", *cell]) == 0 and given == [place]


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
    assert not thesis.exists()
    assert capsys.readouterr().out == f"emptied {thesis.parent}\n"
    assert cli.main(["clean"]) == 0


def test_an_interrupted_run_says_so_in_a_line(capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launch, "launch", interrupted)
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err == "\ninterrupted; the same command goes on from here\n"


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
    with pytest.raises(SafsError, match=r"elsewhere/dvc\.yaml: no such file; expected a copy"):
        launch.launch(study.model_copy(update={"profile": alone}))


def test_the_version_is_told(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"safs-bench, version {metadata.version('safs-bench')}\n"


def test_help_fits_80_columns_and_cuts_no_line_off(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert max(map(len, lines)) <= 80 and not any(line.endswith("...") for line in lines)
    for name in cli.program.commands:
        assert cli.main([name, "--help"]) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_misspelt_command_is_told_the_nearest(capsys):
    assert cli.main(["sho"]) == 2
    assert "Did you mean 'show'?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "_SAFS_BENCH_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["profiles"], ["networks"], ["plan", "quick", "--no-measure"]])
def test_a_table_is_rows_as_json_too(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) > 4 and all(row.keys() == rows[0].keys() for row in rows)


def test_networks_are_told_in_numbers(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["networks", "--json"]) == 0
    rows = {row.pop("pair"): row for row in json.loads(capsys.readouterr().out)}
    assert rows["lenet5_mnist5k"] == {"parameters": 44_426, "slots": 4, "prunable layers": 5}
    for command in (["networks"], ["profiles"], ["standing", "quick"]):
        assert cli.main(command) == 0
        assert len(capsys.readouterr().out.splitlines()) > 3
    assert cli.main(["doctor"]) in (0, 1)  # a machine may lack something
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_faults_and_failed_checks_are_an_exit_code(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    part = SimpleNamespace(faults=["wrong"], text="1 record")
    monkeypatch.setattr(checking, "check", lambda study: [part])
    monkeypatch.setattr("pipelines.cli.runs.tell", lambda *given: None)
    assert cli.main(["check", "quick"]) == 1
    assert capsys.readouterr().err == "wrong\n"
    part.faults = []
    assert cli.main(["check", "quick"]) == 0
    for failed in ([], ["a check"]):
        card = SimpleNamespace(checks=["a check"], failed=failed)
        monkeypatch.setattr(acceptance, "prepared", lambda: None)
        monkeypatch.setattr(acceptance, "run", lambda *given, card=card: card)
        assert cli.main(["check-gpu"]) == len(failed)
    nobody = pd.DataFrame({"status": ["failed", "failed"]})
    monkeypatch.setattr(publishing, "shown", lambda study: (SimpleNamespace(frame=nobody), "here"))
    monkeypatch.setattr(terminal, "rows", lambda runs, about: [])
    assert cli.main(["show", "quick"]) == 1


def test_without_runs_what_is_published_is_shown(published_checkout, capsys):
    assert cli.main(["show", "quick", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    table = pd.read_csv("results/quick/tables/runs.csv")
    for row in rows:
        at = 0.0 if row["arm"] == "dense" else row["ratio"]
        same = (table["arm"] == row["arm"]) & (table["ratio"] == at) & table["top1"].notna()
        assert row["n"] == same.sum()
        assert row["top1"] == pytest.approx(table[same]["top1"].mean())
    assert cli.main(["show", "quick"]) == 0
    assert "published    results/quick/records" in capsys.readouterr().out


def test_where_nothing_was_run_nothing_is_shown(checkout, capsys):
    assert cli.main(["show", "quick"]) == 3
    told = capsys.readouterr()
    assert told.err == "quick: nothing was run here; `safs-bench run quick` does\n"
    assert not told.out.strip()
    assert cli.main(["show", "quick", "--json"]) == 3
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("command", ["retrain", "landscape retrain --profile"])
def test_where_nothing_is_published_there_is_nothing_to_compare(command, checkout, capsys):
    assert cli.main([*command.split(), "quick", "--json"]) == 3
    told = capsys.readouterr()
    assert json.loads(told.out) == [] and told.err.startswith("nothing to compare: ")


def test_verify_reads_the_data_that_it_is_given(checkout, monkeypatch):
    seen = []
    monkeypatch.setenv("SAFS_DATA", "elsewhere")

    def looking(_):
        seen.append(compute.data_directory())
        raise verifying.NothingToCompare("enough")

    monkeypatch.setattr(verifying, "verify", looking)
    assert cli.main(["verify", "quick", "--data-dir", "images"]) == 3
    assert seen == [checkout / "images"]


@pytest.mark.parametrize("command", ["verify", "retrain"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "not UTF-8 at byte 0"),
        (b"{}", "records_file: expected"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"records_file": 1, "x": ' + b"[" * 700 + b"]" * 700 + b"}", "nested too deeply"),
    ],
)
def test_a_commit_that_publishes_what_cannot_be_read_is_one_line(
    command, content, words, checkout, capsys
):
    path = Path("results/quick/records/lenet5_mnist5k/r0.json")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    who = ["-c", "user.name=lab", "-c", "user.email=lab@example.org"]
    for arguments in (["init"], ["add", "results"], ["commit", "--message", "Publish"]):
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)
    assert cli.main([command, "quick"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}") and words in error and error.count("\n") == 1


def test_a_terminal_without_utf8_gets_replacements(published_checkout):
    command = [sys.executable, "-m", "pipelines.cli.main", "show", "quick"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and b"Dense" in done.stdout and b"94.5 ? 0.8" in done.stdout


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "runs/x"), "runs/x: No space left on device"),
        (MemoryError("of 1 GiB"), "out of memory of 1 GiB"),
        (ImportError("cannot load libtorch"), "cannot load libtorch"),
    ],
)
def test_what_a_person_can_mend_is_one_line(error, line, capsys, monkeypatch):
    def fails(*arguments):
        raise error

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launch, "launch", fails)
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_worker_that_died_outside_a_training_is_one_line(checkout, capsys, monkeypatch):
    def die(*arguments, **options):
        raise compute.WorkerDied("its worker died twice: Killed")

    monkeypatch.setattr(compute.Pool, "run", die)
    assert stages.main(["pretrain", "params.yaml", "lenet5_mnist5k"]) == 2
    assert capsys.readouterr().err.endswith("error: its worker died twice: Killed\n")


def test_the_report_is_opened_where_there_is_one(published_checkout, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(runs.webbrowser, "open", lambda page: opened.append(page) or True)
    assert cli.main(["open", "quick"]) == 0
    assert capsys.readouterr().out == "results/quick/report.html\n"
    assert opened == [(ROOT / "results/quick/report.html").as_uri()]
    monkeypatch.setattr(runs.webbrowser, "open", lambda page: False)
    assert cli.main(["open", "quick"]) == 2
    assert capsys.readouterr().err == "error: no browser that could open it\n"
    Path("results").unlink()
    assert cli.main(["open", "quick"]) == 2
    missing = "results/quick/report.html: no such file; `safs-bench run quick` writes it"
    assert missing in capsys.readouterr().err


def test_a_part_of_a_profile_is_its_pairs_and_ratios():
    whole = load(Path("pipelines/profiles/smoke/params.yaml"), ROOT)
    pair, other = whole.profile.pairs[:2]
    one = narrow.narrowed(whole, pair, None)
    assert set(one.pairs) == {pair} and one.profile.ratios(pair) == whole.profile.ratios(pair)
    assert narrow.narrowed(whole, None, None) is whole
    half = narrow.narrowed(whole, pair, 0.9)
    assert half.profile.ratios(pair) == [0.9] and not half.profile.ratios(other)
    with pytest.raises(SafsError, match=r"unknown pair 'lenet5'; did you mean 'lenet5_generated'"):
        narrow.narrowed(whole, "lenet5", None)
    with pytest.raises(SafsError, match=r"--ratio: 0.42: not in the profile smoke; expected one"):
        narrow.narrowed(whole, None, 0.42)
    paper = load(Path("pipelines/profiles/paper/params.yaml"), ROOT)
    with pytest.raises(SafsError, match=r"paper for lenet5_mnist; expected one of 0.99$"):
        narrow.narrowed(paper, "lenet5_mnist", 0.9)


def test_the_stages_of_a_part_leave_the_rest_alone(monkeypatch):
    monkeypatch.chdir(ROOT)
    whole = load(Path("pipelines/profiles/smoke/params.yaml"))
    pair = "lenet5_generated"
    one = narrow.stages(narrow.narrowed(whole, pair, None))
    assert {f"evaluate@{pair}", f"fast@{pair}", f"tune@{pair}-0.90"} <= one
    assert all(pair in stage for stage in one) and f"readings@{pair}" not in one
    quick = load(Path("params.yaml"))
    (pair,) = quick.pairs
    half = narrow.stages(narrow.narrowed(quick, None, 0.95))
    assert half == {f"pretrain@{pair}"} | {f"{stage}@{pair}-0.95" for stage in PER_CELL}


def test_plan_of_the_papers_budgets_by_hand():
    """40 cells: 3 baselines; 21 candidates, 13 operators everywhere; tuned arms of 20 trials.

    An arm has five final trainings, a single activation of Figure 4a one.
    """
    study = load(Path("pipelines/profiles/mnist5k/params.yaml"), ROOT)
    assert sum(trained_in(arm) == "tune" for arm in study.profile.arms) == 7
    halved = (21 * 4 + 7 * 8 + 3 * 20) + (20 * 4 + 7 * 8 + 3 * 20)
    found = {step.stage: (step.trainings, step.epochs) for step in steps(study)}
    assert found == {
        "pretrain": (10, 1000),
        "baselines": (40 * 3 * 5, 40 * 3 * 500),
        "search": (40 * (21 + 13 + 5), 40 * ((21 + 13) * 80 + 500)),
        "tune": (40 * 7 * (20 + 5), 40 * 7 * (20 * 80 + 500)),
        "fast": (40 * (21 + 7 + 3 + 20 + 7 + 3 + 5), 40 * (halved + 500)),
        "activations": (30 * 6, 30 * 6 * 100),
    }


def test_plan_of_searches_and_the_whole_budget_by_hand():
    """10 cells: four searches of 21 candidates; 41 trials beside 20, five final trainings each."""
    study = load(Path("pipelines/profiles/mnist5k_studies/params.yaml"), ROOT)
    found = {step.stage: (step.trainings, step.epochs) for step in steps(study)}
    assert found["algorithms"] == (10 * 4 * 21, 10 * 4 * 21 * 80)
    trials = 20 + 20 + 41
    assert found["tune"] == (10 * (trials + 3 * 5), 10 * (trials * 80 + 3 * 500))
