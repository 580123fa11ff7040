"""Processes side by side: who sees which devices, what becomes of those that fail or must stop."""

import os
import signal
import sys
import threading
import time

import pytest

from ltssl_jax.core import InputError
from ltssl_jax.sweeping import side_by_side
from ltssl_jax.sweeping.grid import Trial
from ltssl_jax.sweeping.side_by_side import Share

ALL = frozenset(side_by_side._affinity())


def trial(root, number, script):
    return Trial("", number, None, root / str(number), ("python", "-c", script))


def seen(platform, number, jobs, variable):
    return [
        side_by_side.environment(platform, number, job, jobs).get(variable) for job in range(jobs)
    ]


def test_every_gpu_is_seen_by_one_process(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen("gpu", 4, 2, "CUDA_VISIBLE_DEVICES") == ["0,1", "2,3"]
    assert seen("gpu", 5, 2, "XLA_PYTHON_CLIENT_MEM_FRACTION") == [None, None]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert seen("gpu", 2, 2, "CUDA_VISIBLE_DEVICES") == ["3", "GPU-a"]


def test_processes_that_share_a_gpu_share_its_memory(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen("gpu", 2, 3, "CUDA_VISIBLE_DEVICES") == ["0", "1", "0"]
    assert seen("gpu", 2, 3, "XLA_PYTHON_CLIENT_MEM_FRACTION") == ["0.45"] * 3


def test_a_tpu_chip_serves_one_process(monkeypatch):
    monkeypatch.delenv("TPU_VISIBLE_CHIPS", raising=False)
    assert seen("tpu", 4, 2, "TPU_VISIBLE_CHIPS") == ["0", "1"]
    assert len(set(seen("tpu", 4, 4, "TPU_PROCESS_PORT"))) == 4
    with pytest.raises(InputError, match="--jobs is 5.*at most 4"):
        side_by_side.environment("tpu", 4, 0, 5)


def test_processors_are_divided():
    assert seen("cpu", 1, 2, "CUDA_VISIBLE_DEVICES") == [None, None]
    assert [side_by_side._part([0, 1, 2, 3, 4], job, 2) for job in (0, 1)] == [[0, 1], [2, 3, 4]]
    assert [side_by_side._part([0, 1], job, 3) for job in (0, 1, 2)] == [[0], [1], [0]]


def test_all_run_on_their_shares_and_one_that_fails_ends_no_other(tmp_path):
    script = "import os, sys; print(os.environ['WHO'], os.sched_getaffinity(0)); sys.exit({})"
    scripts = [script.format(repr("error: no disk")), script.format(0), script.format(0)]
    trials = [trial(tmp_path, number, text) for number, text in enumerate(scripts)]
    core = frozenset([min(ALL)])
    found = dict(
        (one.seed, reason) for one, reason in side_by_side.run(trials, [Share({"WHO": "me"}, core)])
    )
    log = tmp_path / "0/log.txt"
    assert found == {0: f"error: no disk (exit code 1, see {log})", 1: "", 2: ""}
    assert (tmp_path / "2/log.txt").read_text() == f"me {set(core)}\n"
    assert side_by_side._affinity() == ALL


def test_as_many_at_once_as_there_are_shares(tmp_path):
    # Each waits until the other has come: alone it would wait in vain.
    script = f"""
import pathlib, sys, time
place = pathlib.Path({str(tmp_path)!r})
(place / sys.argv[1]).touch()
end = time.monotonic() + 20
while len(list(place.glob("here*"))) < 2:
    assert time.monotonic() < end
    time.sleep(0.05)
"""
    trials = [trial(tmp_path, n, script) for n in range(2)]
    trials = [one._replace(command=(*one.command, f"here{one.seed}")) for one in trials]
    shares = [Share({}, ALL)] * 2
    assert [reason for _, reason in side_by_side.run(trials, shares)] == ["", ""]


def test_ctrl_c_lets_all_save_and_waits_for_them(tmp_path):
    script = f"""
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.3)
    pathlib.Path({str(tmp_path / "saved")!r}).touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
pathlib.Path({str(tmp_path / "ready")!r}).touch()
time.sleep(60)
"""

    def interrupt():
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side.run([trial(tmp_path, 0, script)], [Share({}, ALL)]))
    assert (tmp_path / "saved").exists()


def test_devices_that_are_asked_in_vain(monkeypatch):
    monkeypatch.setattr(side_by_side, "_ASK", "import os; os._exit(3)")
    with pytest.raises(InputError, match=r"no device: it said nothing \(exit code 3\)"):
        side_by_side.shares(2)


@pytest.mark.whole
def test_what_jax_finds_is_shared(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    one, other = side_by_side.shares(2)
    assert one.environment == other.environment == {}
    assert one.cores | other.cores == ALL
    monkeypatch.setenv("JAX_PLATFORMS", "nothing")
    with pytest.raises(InputError, match="JAX finds no device: .*nothing"):
        side_by_side.shares(2)


def test_the_interpreter_is_ours(tmp_path):
    (found,) = side_by_side.run(
        [trial(tmp_path, 0, "import sys; print(sys.executable)")], [Share({}, ALL)]
    )
    assert found[1] == "" and (tmp_path / "0/log.txt").read_text().strip() == sys.executable
