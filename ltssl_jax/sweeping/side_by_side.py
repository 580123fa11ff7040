"""Several trainings at once on one machine, each a process with its share of the devices.

Accelerators are divided among the processes by the variables that their drivers read, processor
cores by the affinity of the process, after which XLA counts its threads. This process itself
touches no accelerator: it would keep memory that the others need.
"""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ltssl_jax.core import InputError
from ltssl_jax.sweeping.grid import Trial
from ltssl_jax.training import loop

LOG = "log.txt"
_LOOK_EVERY = 0.2  # seconds
_TPU_PORT = 8476
# A chip has two devices on some TPUs; asked in a process of its own, which lets go of them again.
_ASK = """
import jax
devices = jax.local_devices()
print(devices[0].platform, len({str(getattr(d, "coords", d.id)) for d in devices}))
"""


class Share(NamedTuple):
    """What of the machine one process gets.

    Attributes:
      environment: variables that say which accelerators it sees.
      cores: processors it runs on.
    """

    environment: dict[str, str]
    cores: frozenset[int]


def run(trials: Sequence[Trial], shares: Sequence[Share]) -> Iterator[tuple[Trial, str]]:
    """Trains, as many at once as there are shares; yields each with why it failed, or "".

    Raises:
      KeyboardInterrupt: it was to stop; the trainings have saved what they had.
    """
    waiting, free = list(reversed(trials)), list(reversed(shares))
    running: list[tuple[Trial, subprocess.Popen, Share]] = []
    with loop.stop_signals() as is_stopped:
        try:
            while waiting or running:
                while waiting and free:
                    one, share = waiting.pop(), free.pop()
                    running.append((one, _started(one, share), share))
                time.sleep(_LOOK_EVERY)
                if is_stopped():
                    raise KeyboardInterrupt
                for ended in [one for one in running if one[1].poll() is not None]:
                    running.remove(ended)
                    one, process, share = ended
                    free.append(share)
                    yield one, _reason(one, process.returncode)
        finally:
            _stop([process for _, process, _ in running])


def shares(jobs: int) -> list[Share]:
    """Divides the machine among `jobs` processes.

    Raises:
      InputError: there are more of them than TPU chips, or JAX finds no device.
    """
    asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True)
    if asked.returncode:
        said = f"{_last_line(asked.stderr)} (exit code {asked.returncode})"
        raise InputError(f"JAX finds no device: {said}")
    platform, number = asked.stdout.split()[-2:]
    cores = sorted(_affinity())
    return [
        Share(environment(platform, int(number), job, jobs), frozenset(_part(cores, job, jobs)))
        for job in range(jobs)
    ]


def environment(platform: str, number: int, job: int, jobs: int) -> dict[str, str]:
    """Returns the variables that show a process its accelerators.

    Args:
      platform: what JAX calls it: cpu, gpu or tpu.
      number: of accelerators on this machine.
      job: of the process, from 0.
      jobs: processes at once.
    """
    if platform == "tpu":
        if jobs > number:
            raise InputError(
                f"--jobs is {jobs}, but a TPU chip serves one process: at most {number}"
            )
        (chip,) = _part(_visible("TPU_VISIBLE_CHIPS", number), job, number)
        return {
            "TPU_VISIBLE_CHIPS": chip,
            "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_ADDRESSES": f"localhost:{_TPU_PORT + job}",
            "TPU_PROCESS_PORT": str(_TPU_PORT + job),
            "CLOUD_TPU_TASK_ID": "0",
        }
    if platform == "cpu":
        return {}
    mine = _part(_visible("CUDA_VISIBLE_DEVICES", number), job, jobs)
    sharing = -(-jobs // number)
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.2f}"} if sharing > 1 else {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(mine)} | memory


def _visible(variable: str, number: int) -> list[str]:
    """Lists the accelerators by the names that a variable gives them, or by number."""
    given = os.environ.get(variable, "")
    return given.split(",") if given else [str(i) for i in range(number)]


def _part(things: Sequence, job: int, jobs: int) -> Sequence:
    """Returns a contiguous share; a single thing, in turn, where there are fewer than jobs."""
    if len(things) < jobs:
        return [things[job % len(things)]]
    return things[job * len(things) // jobs : (job + 1) * len(things) // jobs]


def _affinity() -> set[int]:
    has_affinity = hasattr(os, "sched_getaffinity")  # macOS has none
    return os.sched_getaffinity(0) if has_affinity else set(range(os.cpu_count() or 1))


def _started(one: Trial, share: Share) -> subprocess.Popen:
    one.directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, *one.command[1:]]
    before = _affinity()
    with (one.directory / LOG).open("a", encoding="utf-8") as log:
        try:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, share.cores)  # inherited
            told = os.environ | {"PYTHONUNBUFFERED": "1"} | share.environment
            return subprocess.Popen(command, stdout=log, stderr=log, env=told)
        finally:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, before)


def _reason(one: Trial, code: int) -> str:
    """Returns the last words of a process that failed."""
    if not code:
        return ""
    log: pathlib.Path = one.directory / LOG
    said = _last_line(log.read_text(encoding="utf-8", errors="replace"))
    return f"{said} (exit code {code}, see {log})"


def _last_line(said: str) -> str:
    return (said.strip().splitlines() or ["it said nothing"])[-1]


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Lets them save what they have, and waits for it; kills them if that is interrupted."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()
        raise
