"""TRAS on digits in a dozen steps that several files of whole runs share.

The steps are not trivial: confident pseudo-labels, both heads trained, averages that follow at
once. Equal shapes everywhere, so that the runs are compiled once.
"""

import json
import os

import orbax.checkpoint as ocp

from ltssl_jax import defaults, setups

CHANGES = {
    "method.warmup_epochs": 1,
    "method.threshold": 0.15,
    "model.width": 4,
    "ema.decay": 0.5,
    "train.batch_size": 16,
    "train.mu": 1,
    "train.steps": 12,
    "train.steps_per_epoch": 4,
    "train.log_every": 5,
    "train.evaluate_every": 4,
    "train.checkpoint_every": 4,
    "train.eval_batch_size": 128,
}


def config(changes=()):
    """Returns the configuration with further changes, `{"train.steps": 6}`."""
    made = setups.digits()
    made.method = defaults.method("tras")
    made.update_from_flattened_dict(CHANGES | dict(changes))
    return made


def flags(changes=()):
    """Returns the flags that make `configs/tras_digits.py` the same."""
    return [f"--config.{field}={value}" for field, value in (CHANGES | dict(changes)).items()]


def environment(**changes):
    """Returns the environment of a command in a process of its own."""
    return os.environ | changes


def saved_state(workdir, step):
    """Reads a checkpoint without the library: nested dictionaries of arrays."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / f"checkpoints/{step}/state")


def records(workdir, kind=""):
    """Reads `metrics.jsonl`, all of it or the lines of one kind."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [record for line in lines if kind in (record := json.loads(line))["kind"]]


def without_lists(line):
    """Returns what two runs can be compared by; one image is much of a class's recall."""
    return {name: value for name, value in line.items() if not isinstance(value, list)}
