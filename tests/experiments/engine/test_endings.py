"""How commands end: one line where one is promised, a traceback for faults of the program."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments import leave_at_once
from experiments.compare import EXPERIMENT as COMPARE
from experiments.compare import Compare
from experiments.effective_sparsity import EXPERIMENT, EffectiveSparsity
from experiments.engine import experiment as command_line
from experiments.train_ticket import TrainTicket
from train.lowering import LOWERINGS, lowering

ROOT = Path(__file__).parents[3]
TINY = {"seeds": 1, "sparsities": (0.8, 0.9), "methods": ("random",)}


@dataclass(frozen=True, kw_only=True)
class NoRun:
    """The options of a command that is no run in a folder."""


@pytest.fixture
def end(monkeypatch):
    """``end(kind, run)``: how a command that does this ends."""
    monkeypatch.setattr(command_line, "keep_compiled_programs", lambda: None)
    monkeypatch.setattr(sys, "argv", ["command"])
    before = signal.getsignal(signal.SIGINT)

    def end(kind, run):
        with pytest.raises(SystemExit) as caught:
            command_line.run_command(kind, run, None)
        return caught.value.code

    yield end
    signal.signal(signal.SIGINT, before)


def raising(error):
    def run(_):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("expected --k >= 1, got 0"), "expected --k >= 1, got 0"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EISDIR, "Is a directory", "out/summary.md"), "Is a directory: out/summary.md"),
        (PermissionError(errno.EACCES, "Permission denied", "a", None, "b"), "Permission denied: a -> b"),
        (OSError("torn"), "torn"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_the_user_or_the_machine_can_mend_is_one_line(end, error, said):
    assert end(NoRun, raising(error)) == f"error: {said}"


def test_after_the_machine_failed_a_run_says_that_it_goes_on(end):
    said = end(EffectiveSparsity, raising(OSError(errno.ENOSPC, "No space left on device")))
    assert said.endswith("what is finished is stored, and the same command goes on")
    assert "\n" not in said


@pytest.mark.parametrize(
    "error", [TypeError("no"), KeyError("member"), AssertionError(), IndexError("9")]
)
def test_faults_of_the_program_keep_their_traceback(error, end):
    with pytest.raises(type(error)) as caught:
        command_line.run_command(NoRun, raising(error), None)
    assert caught.value is error


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NoRun, "interrupted\n"),
        (
            EffectiveSparsity,
            "interrupted; what is finished is stored, and the same command goes on\n",
        ),
    ],
)
def test_ctrl_c(end, capsys, kind, said):
    assert end(kind, raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == said
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # a second one ends it at once


def test_a_broken_pipe_that_is_not_the_output_is_said(end):
    assert end(NoRun, raising(BrokenPipeError(errno.EPIPE, "Broken pipe"))) == "error: Broken pipe"


def test_without_a_standard_output(monkeypatch, end):
    monkeypatch.setattr(sys, "stdout", None)
    assert end(NoRun, raising(ValueError("expected --k >= 1"))) == "error: expected --k >= 1"
    command_line.run_command(NoRun, print, None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    return command_line.run(EXPERIMENT, EffectiveSparsity(out_dir=path, **TINY))


def started(out_dir, *, python=(), stdout=subprocess.PIPE, **environment):
    command = [sys.executable, *python, "-m", "experiments.effective_sparsity", "--seeds", "1"]
    command += ["--sparsities", "0.8", "0.9", "--methods", "random", "--out-dir", str(out_dir)]
    settings = os.environ | {"JAX_PLATFORMS": "cpu", **environment}
    return subprocess.Popen(command, cwd=ROOT, env=settings, stdout=stdout, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_commands_in_surroundings_that_are_poor(finished, tmp_path):
    """Nobody reads what is printed; a full output; an ASCII terminal or machine; no such device."""
    (finished / "summary.md").write_text("95.2 ± 0.1 %, naïve\n" * 5000, encoding="utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full:
        ends = {
            "no reader": started(finished, stdout=writing),
            "no reader of each line": started(finished, stdout=writing, python=["-u"]),
            "full": started(finished, stdout=full),
            "terminal": started(finished, PYTHONIOENCODING="ascii"),
            "machine": started(tmp_path / "naïve", LC_ALL="C", PYTHONUTF8="0", LANG="C"),
            "device": started(finished, JAX_PLATFORMS="cuda"),
        }
    os.close(writing)
    said = {
        name: (*process.communicate(timeout=400), process.returncode) for name, process in ends.items()
    }
    assert said["no reader"][1:] == said["no reader of each line"][1:] == (b"", 141)
    assert said["full"][1:] == (
        b"error: No space left on device; what is finished is stored, and the same command goes on\n",
        1,
    )
    printed, error, code = said["terminal"]
    assert (error, code) == (b"", 0)
    assert b"95.2 ? 0.1 %, na?ve\n" in printed
    printed, error, code = said["machine"]
    assert (error, code) == (b"", 0), error
    assert b"| sparsity | Random |" in printed
    error = said["device"][1].decode()
    assert error.startswith("error: JAX_PLATFORMS is 'cuda', and no device of that kind"), error
    assert "there is: cpu." in error
    assert error.count("\n") == 1


def test_ctrl_c_while_modules_are_imported(monkeypatch, capfd):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    leave_at_once(signal.SIGINT, None)
    assert codes == [130]
    assert capfd.readouterr().err == "interrupted before it began\n"


@pytest.mark.parametrize("name", LOWERINGS)
def test_the_lowering_of_the_command_line_holds_while_it_runs(name, monkeypatch):
    monkeypatch.setattr(command_line, "keep_compiled_programs", lambda: None)
    monkeypatch.setattr(sys, "argv", ["train_ticket", "a.safetensors", "--lowering", name])
    seen = []
    command_line.run_command(TrainTicket, lambda _: seen.append(lowering()), None)
    assert seen == [LOWERINGS[name]]


def test_an_unknown_lowering_ends_the_command_with_the_names(monkeypatch, end):
    monkeypatch.setattr(sys, "argv", ["train_ticket", "a.safetensors", "--lowering", "gpu"])
    said = end(TrainTicket, lambda _: pytest.fail("ran"))
    assert said.startswith("error: unknown lowering 'gpu'")
    assert "accelerator-in-turn" in said


def test_what_an_experiment_lacks_ends_it_in_a_line_and_leaves_no_folder(tmp_path, monkeypatch, end):
    data, out = ["--dataset", "mnist", "--data-dir", str(tmp_path)], tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["compare", *data, "--out-dir", str(out)])
    said = end(Compare, lambda options: command_line.run(COMPARE, options))
    assert said.startswith("error: ")
    assert "mnist" in said
    assert not out.exists()
