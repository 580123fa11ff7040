"""Two processes of two devices are one process of four: numbers, records, and being stopped."""

import pathlib
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ltssl_jax import experiment
from tests import small

ROOT = pathlib.Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "ltssl_jax.main", "--config=configs/tras_digits.py"]


def start(workdir, mode):
    """Starts the same command twice; together they are one run."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    block = {"mode": mode, "coordinator": address, "num_processes": 2}
    return [
        subprocess.Popen(
            [
                *COMMAND,
                f"--workdir={workdir}",
                *small.flags({f"parallel.{k}": v for k, v in block.items()}),
                f"--config.parallel.process_id={process}",
            ],
            env=small.environment(JAX_NUM_CPU_DEVICES="2"),
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for process in range(2)
    ]


def finish(processes, said=""):
    """Returns the exit codes and what was said."""
    try:
        output = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], [said + output[0], output[1]]


def final_state(workdir):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / "checkpoints/12/state")


@pytest.mark.multihost
def test_one_signal_stops_both_and_the_other_mapping_continues(tmp_path):
    first, second = start(tmp_path / "two", "shard_map")
    said = ""
    for line in first.stdout:
        said += line
        if line.startswith("devices:"):  # compilation begins
            second.send_signal(signal.SIGTERM)  # only one of them hears it
            break
    codes, said = finish([first, second], said)
    print(said)
    assert codes == [130, 130], said
    assert "stopped after step" in said[0] and said[1].count("step") == 0

    codes, said = finish(start(tmp_path / "two", "pmap"))
    assert codes == [0, 0], said
    assert "continuing after step" in said[0] and "4 cpu devices" in said[0]

    one = small.config({"parallel.mode": "shard_map", "parallel.num_devices": 4})
    experiment.train(one, tmp_path / "one", is_quiet=True)
    jax.tree.map(
        np.testing.assert_array_equal, *map(final_state, (tmp_path / "one", tmp_path / "two"))
    )
