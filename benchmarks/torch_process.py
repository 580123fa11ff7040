"""A PyTorch process of `step_time.py`: started, asked, stopped in between, and metered."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
from typing import Any


class Torch:
    """Steps in PyTorch, in a process that is stopped while it is not asked.

    Attributes:
      facts: device, version, threads.
    """

    def __init__(self, python: str, job: pathlib.Path, style: str):
        command = [python, pathlib.Path(__file__).with_name("torch_step.py"), job, style]
        # A process group: its loader workers are stopped, and counted, with it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self.facts = self._answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __call__(self, what: str, num_steps: int) -> float:
        """Makes steps; returns the seconds that PyTorch measured."""
        return self.ask(f"{what} {num_steps}")["seconds"]

    def ask(self, command: str) -> dict[str, Any]:
        """Wakes the process, gives a command, and stops it when it has answered."""
        os.killpg(self._process.pid, signal.SIGCONT)
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                "PyTorch ended; above is why. --torch-python needs torch, numpy and pillow"
            )
        os.killpg(self._process.pid, signal.SIGSTOP)
        return json.loads(line)

    def cpu_seconds(self) -> float:
        """Sums the CPU time that the process and its loader workers have used so far."""
        ticks = 0
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # a process that has ended meanwhile
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self._process.pid:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")
