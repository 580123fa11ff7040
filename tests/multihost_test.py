"""Two processes of two devices are one run: its numbers, its records, and being stopped."""

import functools
import json
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


# The command to its end, then another run: starting a process costs as much as a short run.
TWO_RUNS = """
import json, sys
from ltssl_jax import experiment, main
from tests import small
workdir, changes = sys.argv.pop(1), json.loads(sys.argv.pop(1))
try:
    main.cli()
except SystemExit as end:
    assert not end.code, end.code
sys.exit(130 * (not experiment.train(small.config(changes), workdir)))
"""


def start(workdir, first, then):
    """Starts two processes that are one run, and after it another one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        block = {"parallel.coordinator": f"localhost:{free.getsockname()[1]}"}
    command = [sys.executable, "-c", TWO_RUNS, str(workdir), json.dumps(then)]
    command += ["--config=configs/tras_digits.py", f"--workdir={workdir}"]
    command += small.flags(first | block | {"parallel.num_processes": 2})
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
def test_two_processes_continue_a_run_under_any_mapping_and_stop_together(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    experiment.train(small.config({"train.steps": 4}), one, is_quiet=True)
    shutil.copytree(one, two)

    # Several steps at once: the processes must still agree on when to stop.
    changes = {"parallel.steps_at_once": 2, "train.log_every": 4}
    whole = changes | {"parallel.mode": "shard_map", "train.steps": 8}
    endless = changes | {"parallel.mode": "pmap", "train.steps": 9999}
    codes, said = stop(*start(two, whole, endless), "step   12/9999")
    assert codes == [130, 130], said
    assert "4 cpu devices (no accelerator), mapped by shard_map" in said[0]
    assert "continuing after step 4" in said[0] and "continuing after step 8" in said[0]
    assert "step" not in said[1]  # only the first process talks
    step = int(re.search(r"stopped after step (\d+);", said[0])[1])
    assert 12 <= step < 9999

    experiment.train(small.config({"train.steps": step}), one, is_quiet=True)
    # As far apart as eight devices are from one, see `experiment_test`.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    jax.tree.map(close, *(small.saved_state(workdir, step) for workdir in (one, two)))
    ours, theirs = (small.records(workdir, "evaluation") for workdir in (one, two))
    assert [line["step"] for line in theirs][:3] == [4, 8, 12]
    for our, their in zip(ours[:3], theirs[:3], strict=True):  # each image once, whoever reads it
        numbers = small.without_lists(their), small.without_lists(our)
        assert numbers[0] == pytest.approx(numbers[1], abs=0.01)
