"""Two processes of two devices are one run: its numbers, its records, and being stopped."""

import functools
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from ltssl_jax import experiment
from tests import small

ROOT = pathlib.Path(__file__).parents[1]


def start(workdir, changes):
    """Starts the same command twice; together they are one run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    block = {"parallel.coordinator": address, "parallel.num_processes": 2}
    command = [sys.executable, "-m", "ltssl_jax.main", "--config=configs/tras_digits.py"]
    command += [f"--workdir={workdir}", *small.flags(changes | block)]
    return [
        subprocess.Popen(
            [*command, f"--config.parallel.process_id={process}"],
            env=small.environment(JAX_NUM_CPU_DEVICES="2"),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for process in range(2)
    ]


def stop(first, second, line_of_first):
    """Sends a SIGTERM to the second process alone; returns exit codes and what was said."""
    said = ""
    try:
        for line in first.stdout:
            said += line
            if line.startswith(line_of_first):
                second.terminate()
                break
        outputs = [process.communicate(timeout=150)[0] for process in (first, second)]
    finally:
        first.kill()
        second.kill()
    return [first.returncode, second.returncode], [said + outputs[0], outputs[1]]


@pytest.mark.multihost
@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
def test_two_processes_continue_a_run_and_stop_together(mode, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    experiment.train(small.config({"train.steps": 3}), one, is_quiet=True)
    shutil.copytree(one, two)

    # Several steps at once: the processes must still agree on when to stop.
    endless = {"train.steps": 9999, "parallel.mode": mode, "parallel.steps_at_once": 2}
    endless |= {"train.log_every": 4}
    codes, said = stop(*start(two, endless), "step    8/9999")
    assert codes == [130, 130], said
    assert "continuing after step 3" in said[0] and "4 cpu devices" in said[0]
    assert "step" not in said[1]  # only the first process talks
    step = int(re.search(r"stopped after step (\d+);", said[0])[1])
    assert 8 <= step < 9999

    experiment.train(small.config({"train.steps": step}), one, is_quiet=True)
    # As far apart as eight devices are from one, see `experiment_test`.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    jax.tree.map(close, *(small.saved_state(workdir, step) for workdir in (one, two)))
    ours, theirs = (small.records(workdir, "evaluation") for workdir in (one, two))
    assert [line["step"] for line in theirs][:3] == [3, 4, 8]
    for our, their in zip(ours[:3], theirs[:3], strict=True):  # each image once, whoever reads it
        assert their == pytest.approx(our, abs=0.01)
