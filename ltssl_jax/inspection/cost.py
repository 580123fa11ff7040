"""What training costs on this machine, measured on a few real steps."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ltssl_jax.core import PyTree

_MOST_STEPS = 30


def measure(
    step: Callable, state: PyTree, stack: PyTree, resident: PyTree, *, at_once: int, seconds: float
) -> dict[str, Any]:
    """Compiles a mapped train step, makes a few steps and times them.

    Args:
      step: compiled `(state, stack, resident) -> (state, metrics)`.
      state, stack, resident: placed on the devices; the state may be donated.
      at_once: steps per call.
      seconds: to spend on timed calls; at least two are made.

    Returns:
      `compile_seconds`; `step_seconds` (the median); `timed_steps`; `memory_bytes` of one device
      during a step, as the compiler plans it, or None where it does not say.
    """
    began = time.perf_counter()
    compiled = step.lower(state, stack, resident).compile()
    compile_seconds = time.perf_counter() - began
    state, metrics = jax.block_until_ready(compiled(state, stack, resident))  # warms up
    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or (time.perf_counter() < end and len(times) * at_once < _MOST_STEPS):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(compiled(state, stack, resident))
        times.append((time.perf_counter() - began) / at_once)
    return {
        "compile_seconds": compile_seconds,
        "step_seconds": float(np.median(times)),
        "timed_steps": len(times) * at_once,
        "memory_bytes": _memory(compiled),
    }


def _memory(compiled: Any) -> int | None:
    facts = compiled.memory_analysis()
    if facts is None:
        return None
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    return sum(getattr(facts, size) for size in sizes) - facts.alias_size_in_bytes
