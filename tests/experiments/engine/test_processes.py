"""Several processes share a run, and get what one process gets."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pyarrow.parquet as pq
import pytest
import tyro

from experiments.engine import processes
from experiments.engine.experiment import run
from experiments.engine.processes import join, share
from tests.experiments.one_of_several import experiment_of, options

ROOT = Path(__file__).parents[3]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(out_dir, count, dying=None, name="pruning_methods"):
    """Runs ``count`` processes of one run to their ends, of which the second may end early."""
    port, running = free_port(), []
    for number in range(count):
        command = [sys.executable, "-m", "tests.experiments.one_of_several", name, str(out_dir)]
        command += [str(port), str(count), str(number), *([dying] if dying and number == 1 else [])]
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(out_dir.parent)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    outputs = [process.communicate(timeout=400) for process in running]
    return [(process.returncode, *output) for process, output in zip(running, outputs, strict=True)]


def run_alone(out_dir, name="pruning_methods"):
    """The results of one process."""
    experiment = experiment_of(name)
    return results(run(experiment, tyro.cli(experiment.options, args=options(name, out_dir))))


def results(out_dir):
    rows = pq.read_table(out_dir / "results.parquet").to_pylist()
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run_alone(tmp_path_factory.mktemp("alone") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_get_what_one_gets(count, alone, tmp_path):
    """The second stage begins with networks that other processes have trained."""
    ended = start(tmp_path / "run", count)
    assert [code for code, *_ in ended] == [0] * count, ended
    assert results(tmp_path / "run") == alone
    (_, said, _), *others = ended
    assert "results in" in said
    assert not any("results in" in other for _, other, _ in others)
    # Each has trained: no part holds all members of a stage.
    parts = [pq.read_table(part).to_pylist() for part in (tmp_path / "run" / "parts").iterdir()]
    assert max(len({row["member"] for row in part}) for part in parts) <= 4 // count + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["missing_the_mark", "ticket_search", "effective_sparsity"])
def test_the_other_experiments_get_what_one_process_gets(name, tmp_path):
    """Their rounds and baselines go on from networks that other processes have trained."""
    ended = start(tmp_path / "run", 3, name=name)
    assert [code for code, *_ in ended] == [0] * 3, ended
    assert results(tmp_path / "run") == run_alone(tmp_path / "alone", name)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "exit_code"), [("killed", 9), ("failed", 1)])
def test_a_process_that_ends_early_stops_the_others_and_the_run_goes_on(how, exit_code, alone, tmp_path):
    (code, _, error), (other_code, _, other_error) = start(tmp_path / "run", 2, dying=how)
    assert (code, other_code) == (1, exit_code)
    assert "most likely one has ended early" in error
    assert ("it has failed, as above" in other_error) == (how == "failed")
    assert not (tmp_path / "run" / "summary.md").exists()
    kept = {part.name: part.stat().st_mtime_ns for part in (tmp_path / "run" / "parts").iterdir()}
    assert kept  # what the first one had finished
    assert run_alone(tmp_path / "run") == alone
    parts = {part.name: part.stat().st_mtime_ns for part in (tmp_path / "run" / "parts").iterdir()}
    assert kept.items() <= parts.items()


SEES = """
import sys
from experiments.engine.processes import as_first_sees, join
number = int(sys.argv[2])
join(sys.argv[1], 2, number)
print(as_first_sees({"seen by": number, "names": ["network"] * (1 + number)}), file=sys.stderr)
"""


@pytest.mark.slow
def test_what_the_first_sees_decides():
    """The others see something else, of another length."""
    address, pipes = f"127.0.0.1:{free_port()}", {"stderr": subprocess.PIPE, "text": True}
    running = [
        subprocess.Popen([sys.executable, "-c", SEES, address, str(number)], cwd=ROOT, **pipes)
        for number in range(2)
    ]
    for process in running:
        assert "{'seen by': 0, 'names': ['network']}" in process.communicate(timeout=400)[1]
        assert process.returncode == 0


def test_shares_are_all_there_is(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    shares = []
    for number in range(3):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        shares.append(share([*range(7)]))
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1234", None, None), "--num-processes, --process-id is missing"),
        ((None, 2, 1), "--coordinator-address is missing"),
        (("host:1234", 2, 2), "--process-id from 0 to 1"),
        (("host:1234", 2, -1), "--process-id from 0 to 1"),
        ((None, 3, None), "--coordinator-address, --process-id is missing"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        join(*arguments)


def test_one_process_is_alone_whatever_slurm_says(monkeypatch):
    for name in ("SLURM_PROCID", "SLURM_STEP_NODELIST"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    join(num_processes=1)
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, False),  # a batch script, without srun
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, False),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"}, True),
        ({"TPU_WORKER_HOSTNAMES": "one"}, False),
        ({"TPU_WORKER_HOSTNAMES": "one,two"}, True),
    ],
)
def test_clusters_are_known_by_their_environment(environment, several):
    assert processes._is_one_of_several(environment) == several
