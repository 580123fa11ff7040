"""The host loop: dispatch steps, and only then read what the steps before them said."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np

from ltssl_jax.core import Array, InputError, Log, PyTree, TrainState


class Hook(NamedTuple):
    """Calls `act(step, state)` after every `every` steps and after the last one."""

    every: int
    act: Callable[[int, TrainState], None]

    def is_due(self, step: int, total_steps: int) -> bool:
        """Says whether it is called after `step`."""
        return step % self.every == 0 or step == total_steps


class Refresh(NamedTuple):
    """Replaces the state by `act(state)` after every `every` steps."""

    every: int
    act: Callable[[TrainState], TrainState]


def steps_at_once(asked: int, counted: Mapping[str, int], *, most: int) -> int:
    """Returns how many steps a dispatch makes.

    Logs, evaluations and checkpoints fall between dispatches, so it divides what they count in.

    Args:
      asked: a number of steps, or 0 for the largest that is possible.
      counted: after how many steps something else happens, by what says so.
      most: limit, where nothing was asked.

    Raises:
      InputError: what was asked does not divide what one of them counts in.
    """
    for name, every in counted.items():
        InputError.check(
            asked >= 0 and every % (asked or 1) == 0,
            "parallel.steps_at_once",
            asked,
            f"a divisor of {name}, {every}, or 0 to have it chosen",
        )
    common = math.gcd(*counted.values())
    return asked or max(k for k in range(1, most + 1) if common % k == 0)


def dispatches(start: int, total_steps: int, at_once: int) -> Iterator[int]:
    """Yields how many steps each dispatch makes, up to the next multiple of `at_once`."""
    while start < total_steps:
        size = min(at_once - start % at_once, total_steps - start)
        yield size
        start += size


def run(
    step: Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Mapping[str, Array]]],
    state: TrainState,
    batches: Iterator[PyTree],
    resident: PyTree,
    *,
    total_steps: int,
    at_once: int = 1,
    log_every: int,
    log: Callable[[Log], None],
    compiled: Callable[[float], None] = lambda seconds: None,
    hooks: tuple[Hook, ...] = (),
    refresh: Refresh | None = None,
    is_stopped: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Trains until `total_steps` updates are finished, or `is_stopped(step)` says so.

    Args:
      step: compiled `(state, batches, resident) -> (state, metrics)` that makes as many steps as
        there are batches in the stack, and averages their metrics; donates the state.
      state: where to start.
      batches: stacks of batches from `state.step` on, as large as `dispatches` says, spread over
        the devices.
      resident: what every step needs beside its batch.
      total_steps: where to end.
      at_once: steps per dispatch; divides `log_every` and what the hooks count in.
      log_every: steps per `Log`.
      log: receives each `Log`, one dispatch after its last step's.
      compiled: receives the seconds of the first dispatch, nearly all of them compilation.
      hooks: evaluation, checkpoints.
      refresh: a method's work between steps; comes before the hooks.
      is_stopped: asked after every dispatch.

    Returns:
      The last state.
    """
    window, n = _Window(log), int(state.step)
    metrics, known_sizes = None, set()
    for size in dispatches(n, total_steps, at_once):
        stack = window.waiting(batches, metrics)
        if size in known_sizes:
            state, metrics = step(state, stack, resident)
        else:
            jax.block_until_ready(metrics)
            with window.paused() as seconds:
                state, metrics = jax.block_until_ready(step(state, stack, resident))
            if not known_sizes:
                compiled(seconds())
        if n % log_every == 0:
            window.flush(n)
        window.add(metrics, size, is_timed=size in known_sizes)
        known_sizes.add(size)
        n += size
        if refresh and n % refresh.every == 0:
            with window.refreshing(metrics):
                state = jax.block_until_ready(refresh.act(state))
        due = [hook for hook in hooks if hook.is_due(n, total_steps)]
        if due:
            jax.block_until_ready(metrics)  # so that the hooks' time is not the steps'
            with window.paused():
                for hook in due:
                    hook.act(n, state)
        if is_stopped(n):
            break
    window.flush(int(state.step))
    return state


class _Window:
    """The metrics since the last log, and a clock that runs while steps do."""

    def __init__(self, log: Callable[[Log], None]):
        self._log, self._metrics, self._sizes, self._num_timed = log, [], [], 0
        self._began, self._waited, self._refreshed = time.perf_counter(), 0.0, 0.0

    def add(self, metrics: Mapping[str, Array], num_steps: int, *, is_timed: bool) -> None:
        self._metrics.append(metrics)
        self._sizes.append(num_steps)
        self._num_timed += num_steps * is_timed

    def waiting(self, batches: Iterator[PyTree], made: PyTree) -> PyTree:
        """Returns the next batch; its time counts as lost if all made before is done by then."""
        began = time.perf_counter()
        batch = next(batches)
        if _is_done(made):
            self._waited += time.perf_counter() - began
        return batch

    @contextlib.contextmanager
    def paused(self) -> Iterator[Callable[[], float]]:
        """Stops the clock; yields a function that says for how many seconds."""
        began, ended = time.perf_counter(), []
        yield lambda: ended[0] - began
        ended.append(time.perf_counter())
        self._began += ended[0] - began

    @contextlib.contextmanager
    def refreshing(self, made: PyTree) -> Iterator[None]:
        """Counts the time of a refresh by itself, from when all steps made before are done."""
        jax.block_until_ready(made)
        with self.paused() as seconds:
            yield
        self._refreshed += seconds()

    def flush(self, step: int) -> None:
        """Logs what is there, and begins anew."""
        if self._metrics:
            averages = _mean(self._metrics, self._sizes)
            seconds = time.perf_counter() - self._began
            times = (seconds, self._waited, self._refreshed)
            self._log(Log(step, averages, self._num_timed, *times))
        self._metrics, self._sizes, self._num_timed = [], [], 0
        self._began, self._waited, self._refreshed = time.perf_counter(), 0.0, 0.0


def _is_done(metrics: PyTree) -> bool:
    return all(x.is_ready() for x in jax.tree.leaves(metrics))


def _mean(window: list[Mapping[str, Array]], weights: list[int]) -> dict[str, float | list[float]]:
    host = jax.device_get(window)

    def average(name):
        return np.average([metrics[name] for metrics in host], axis=0, weights=weights).tolist()

    return {name: average(name) for name in host[-1]}


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and Ctrl-C into a question to ask between steps: was a stop asked for?

    A second Ctrl-C interrupts at once. The answer is always no outside the main thread, where
    Python allows no handlers, and with `jax.distributed`: its own handler of SIGTERM lets all
    processes stop after the same step; one that left alone would keep the others waiting.
    """
    received = []
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or jax.distributed.is_initialized():
        yield lambda: False
        return

    def remember(number, frame):
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {s: signal.signal(s, remember) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
