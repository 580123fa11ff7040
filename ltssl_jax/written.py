"""Reads the files and checkpoints of a run directory, whatever state the run is in."""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.core import InputError, TrainState

# What is read of `config.json`; another version may have written another one.
_NEEDED = {
    "": ("seed", "data", "augment", "model", "method", "optim", "train", "parallel", "identity"),
    "data": ("source", "image_size", "resize"),
    "data.source": ("columns",),
    "augment": ("mean", "std"),
    "method": ("name",),
    "model": ("name",),
    "train": ("steps", "steps_per_epoch"),
    "identity": ("data",),
    "identity.data": ("class_names", "image_shape", "labeled_counts", "num_unlabeled"),
}


def last_stage(path: pathlib.Path) -> pathlib.Path:
    """Returns the newest stage that has a checkpoint, of an experiment that has several."""
    try:
        stages = json.loads((path / "stages.json").read_text(encoding="utf-8"))
        # Older versions list the finished ones alone.
        directories = [path / name for name in stages.get("directories") or stages["finished"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # or damaged
        return path
    saved = [d for d in directories if any((d / "checkpoints").glob("[0-9]*"))]
    return (saved or directories[:1] or [path])[-1]


def identified(path: pathlib.Path) -> tuple[ConfigDict, dict[str, Any]]:
    """Returns the configuration and the identity card of a run."""
    try:
        settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} is no run: its config.json cannot be read ({error.strerror}); give a directory"
            " that was the --workdir of python -m ltssl_jax.main"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path / 'config.json'} is damaged ({error}); the training command writes it again"
        ) from error
    missing = [name for name in _needed() if _at(settings, name) is None]
    if missing:
        raise InputError(
            f"{path} was written by another version: its config.json lacks {', '.join(missing)};"
            " read it with the version that wrote it, or train again"
        )
    identity = settings.pop("identity")
    for fact in ("command", "commit", "continued"):
        settings.pop(fact, None)
    return ConfigDict(with_tuples(settings)), identity


def _needed() -> list[str]:
    return [f"{block}.{name}".lstrip(".") for block, names in _NEEDED.items() for name in names]


def _at(tree: Any, name: str) -> Any:
    for key in name.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def with_tuples(value: Any) -> Any:
    """Returns what JSON has read as a configuration has it: with tuples for lists."""
    if isinstance(value, dict):
        return {key: with_tuples(item) for key, item in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def restored(
    path: pathlib.Path, identity: Mapping[str, Any], which: str | int, like: TrainState
) -> tuple[TrainState, str]:
    """Returns the checkpoint that is asked for, and why it is this one."""
    try:
        with CheckpointStore(path / "checkpoints", identity, is_reader=True) as store:
            step, why = _step_of(store, path, which)
            state = store.restore_or(like, step)
        if jax.tree.map(np.shape, state) != jax.tree.map(np.shape, like):
            raise ValueError(f"the arrays of step {step} have other shapes")  # Orbax does not mind
        return state, why
    except InputError:
        raise
    except Exception as error:  # Orbax raises what it likes: ValueError, KeyError, OSError
        said = str(error).strip().splitlines() or [type(error).__name__]
        wrote = identity.get("versions", {}).get("ltssl_jax", "unknown")
        raise InputError(
            f"the checkpoints of {path} cannot be restored ({said[0]}); they are damaged, or of a"
            f" network that this version builds differently (written by ltssl_jax {wrote})"
        ) from error


def _step_of(store: CheckpointStore, path: pathlib.Path, which: str | int) -> tuple[int, str]:
    """Returns the step of the checkpoint that is asked for, and why it is this one."""
    if store.latest_step is None:
        raise InputError(
            f"{path} has no checkpoint yet; the same training command continues until there is one"
        )
    if which == "best":
        if store.best_step is None:
            return store.latest_step, "the latest: none was evaluated"
        return store.best_step, _praise(path, store.best_step)
    if which == "latest":
        return store.latest_step, "the latest"
    kept = sorted(int(p.name) for p in (path / "checkpoints").iterdir() if p.name.isdecimal())
    if which not in kept:
        raise InputError(
            f"{path} has no checkpoint {which!r}; give best, latest, or one of the steps"
            f" {', '.join(map(str, kept))}"
        )
    return which, "as asked for"


def _praise(path: pathlib.Path, step: int) -> str:
    """Says on which images a checkpoint is the best, and how good it is there."""
    for record in _evaluations(path):
        if record["step"] == step:
            on = "validation" if "validation/balanced_accuracy" in record else "test"
            value = record[f"{on}/balanced_accuracy"]
            return f"the best on {on} (balanced accuracy {100 * value:.1f} %)"
    return "the best"


def _evaluations(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields what `metrics.jsonl` says of evaluations; a line may be cut off by a crash."""
    with contextlib.suppress(OSError):
        for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record["kind"] == "evaluation":
                    yield record
