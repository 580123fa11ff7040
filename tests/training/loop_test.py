"""The host loop: what is dispatched, logged, called and stopped, and when."""

import itertools
import os
import signal
import time
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.training import loop


class Counter(NamedTuple):
    step: int


class Recorder:
    """Stands where the compiled step, the log and the hooks stand; writes down who was called."""

    def __init__(self):
        self.events, self.logs, self.batches = [], [], []

    def step(self, state, batch, resident):
        self.batches.append(batch)
        self.events.append(("step", state.step + 1))
        assert resident == "resident"
        return Counter(state.step + 1), {"loss": jnp.float32(batch)}

    def log(self, entry):
        self.events.append(("log", entry.step))
        self.logs.append(entry)

    def hook(self, name, every):
        return loop.Hook(every, lambda n, state: self.events.append((name, n, state.step)))

    def run(self, *, start=0, total_steps=7, log_every=3, **options):
        batches = itertools.count(start)  # the loss of update n is n - 1
        return loop.run(
            self.step,
            Counter(start),
            batches,
            "resident",
            total_steps=total_steps,
            log_every=log_every,
            log=self.log,
            **options,
        )


@pytest.fixture
def recorder():
    return Recorder()


def test_every_step_is_made_and_logged_once(recorder):
    assert recorder.run().step == 7
    assert recorder.batches == list(range(7))
    assert [(log.step, log.num_steps) for log in recorder.logs] == [(3, 2), (6, 3), (7, 1)]
    losses = [log.metrics["loss"] for log in recorder.logs]
    np.testing.assert_allclose(losses, [1.0, 4.0, 6.0])  # means over the steps of each window


def test_a_window_is_read_after_the_next_step_was_dispatched(recorder):
    recorder.run(total_steps=4)
    expected = [("step", 1), ("step", 2), ("step", 3), ("step", 4), ("log", 3), ("log", 4)]
    assert recorder.events == expected


def test_a_resumed_run_goes_on_where_it_was(recorder):
    assert recorder.run(start=4).step == 7
    assert recorder.batches == [4, 5, 6]
    assert [(log.step, log.num_steps) for log in recorder.logs] == [(6, 1), (7, 1)]


def test_a_finished_run_makes_no_step(recorder):
    assert recorder.run(start=7).step == 7
    assert recorder.events == []


def test_hooks_are_called_in_order_and_after_the_last_step(recorder):
    recorder.run(hooks=(recorder.hook("evaluate", 3), recorder.hook("save", 6)), log_every=100)
    calls = [event for event in recorder.events if event[0] in ("evaluate", "save")]
    assert calls == [
        ("evaluate", 3, 3),
        ("evaluate", 6, 6),
        ("save", 6, 6),
        ("evaluate", 7, 7),
        ("save", 7, 7),
    ]


def test_a_stop_ends_after_the_step_with_its_log(recorder):
    assert recorder.run(is_stopped=lambda n: n == 5).step == 5
    assert recorder.logs[-1].step == 5


def test_the_time_of_hooks_and_compilation_is_not_that_of_the_steps(recorder, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    inner = recorder.step

    def step(state, batch, resident):
        clock[0] += 100.0 if state.step == 0 else 1.0  # the first one is compiled
        return inner(state, batch, resident)

    def slow(n, state):
        clock[0] += 1000.0

    recorder.step, compiled = step, []
    recorder.run(total_steps=6, compiled=compiled.append, hooks=(loop.Hook(2, slow),))
    assert compiled == [100.0]
    assert sum(log.seconds for log in recorder.logs) == 5.0


@pytest.mark.parametrize("is_done, waited", [(True, 6.0), (False, 0.0)])
def test_waiting_counts_where_the_devices_are_idle(recorder, monkeypatch, is_done, waited):
    clock = [0.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(loop, "_is_done", lambda metrics: is_done)

    def batches():
        for n in itertools.count():
            clock[0] += 3.0
            yield n

    def step(state, batch, resident):
        clock[0] += 1.0
        return Counter(state.step + 1), {"loss": jnp.float32(0)}

    loop.run(step, Counter(0), batches(), "resident", total_steps=5, log_every=2, log=recorder.log)
    log = recorder.logs[1]
    assert (log.num_steps, log.waited, log.seconds) == (2, waited, 8.0)


def test_every_new_size_of_a_dispatch_compiles_and_is_not_timed(recorder, monkeypatch):
    clock, compiled = [0.0], []
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])
    sizes, known = iter(loop.dispatches(1, 11, 4)), set()  # 3, 4, 3

    def step(state, batch, resident):
        size = next(sizes)
        clock[0] += size + 100.0 * (size not in known)
        known.add(size)
        return Counter(state.step + size), {"loss": jnp.float32(0)}

    recorder.step = step
    recorder.run(start=1, total_steps=11, at_once=4, log_every=4, compiled=compiled.append)
    assert compiled == [103.0]
    assert sum(log.num_steps for log in recorder.logs) == 3
    assert sum(log.seconds for log in recorder.logs) == 3.0


# --- several steps at once ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start, total_steps, at_once, expected",
    [
        (0, 7, 1, [1] * 7),
        (0, 12, 4, [4, 4, 4]),
        (0, 10, 4, [4, 4, 2]),
        (3, 10, 4, [1, 4, 2]),
        (8, 8, 4, []),
    ],
)
def test_dispatches_end_at_multiples(start, total_steps, at_once, expected):
    assert list(loop.dispatches(start, total_steps, at_once)) == expected


def test_logs_weigh_dispatches_by_their_steps(recorder):
    sizes = iter(loop.dispatches(1, 8, 2))  # 1, 2, 2, 2

    def step(state, batch, resident):
        return Counter(state.step + next(sizes)), {"loss": jnp.float32(state.step)}

    recorder.step = step
    hooks = (recorder.hook("save", 4),)
    assert recorder.run(start=1, total_steps=8, at_once=2, log_every=4, hooks=hooks).step == 8
    assert [(log.step, log.num_steps) for log in recorder.logs] == [(4, 0), (8, 4)]
    losses = [log.metrics["loss"] for log in recorder.logs]
    np.testing.assert_allclose(losses, [(1 * 1 + 2 * 2) / 3, (2 * 4 + 2 * 6) / 4])
    assert [e for e in recorder.events if e[0] == "save"] == [("save", 4, 4), ("save", 8, 8)]


def test_steps_at_once_divide_what_is_counted():
    counted = {"train.log_every": 100, "train.evaluate_every": 500}
    assert loop.steps_at_once(0, counted, most=1) == 1
    assert loop.steps_at_once(0, counted, most=50) == 50
    assert loop.steps_at_once(0, counted, most=60) == 50
    assert loop.steps_at_once(25, counted, most=1) == 25
    for asked in (30, 200, -1):
        message = f"parallel.steps_at_once is {asked}; it must be a divisor of train.log_every, 100"
        with pytest.raises(InputError, match=message):
            loop.steps_at_once(asked, counted, most=1)


# --- work between steps ---------------------------------------------------------------------------


def refreshed(recorder, every=2):
    def act(state):
        recorder.events.append(("refresh", state.step))
        time.sleep(0.05)
        return state

    return loop.Refresh(every, act)


def test_a_refresh_comes_after_its_steps_and_before_the_hooks(recorder):
    hook = recorder.hook("hook", 4)
    recorder.run(total_steps=5, refresh=refreshed(recorder), hooks=(hook,))
    events = [event[:2] for event in recorder.events if event[0] in ("refresh", "hook", "step")]
    assert events == [
        ("step", 1), ("step", 2), ("refresh", 2), ("step", 3), ("step", 4), ("refresh", 4),
        ("hook", 4), ("step", 5), ("hook", 5),
    ]  # fmt: skip


def test_a_refresh_may_change_the_state(recorder):
    jump = loop.Refresh(2, lambda state: Counter(state.step + 10))
    assert recorder.run(total_steps=3, refresh=jump).step == 13


def test_the_time_of_a_refresh_is_its_own(recorder):
    recorder.run(total_steps=6, log_every=6, refresh=refreshed(recorder))
    (entry,) = recorder.logs
    assert entry.refreshed >= 3 * 0.05 and entry.seconds < 0.05


# --- stopping -------------------------------------------------------------------------------------


def test_a_signal_asks_for_a_stop_between_steps():
    with loop.stop_signals() as is_asked:
        assert not is_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert is_asked()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_interrupt_interrupts_at_once():
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background
    with loop.stop_signals() as is_asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert is_asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
