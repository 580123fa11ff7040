"""What a run says about itself: its identity for checkpoints, and its introduction for people."""

import importlib.metadata
import os
import pathlib
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

import ltssl_jax
from ltssl_jax.core import TrainState
from ltssl_jax.data.sources import Source
from ltssl_jax.data.sources.base import hash_of, tally
from ltssl_jax.data.splits import Split

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

# Fields of methods that say when something begins, and what they count.
WARMUPS = {
    "warmup_epochs": "epochs",
    "debias_after": "epochs",
    "warmup_steps": "steps",
}


def identity(
    config: dict[str, Any],
    source: Source,
    split: Split,
    num_devices: int,
    *,
    counts_steps: bool = False,
) -> dict[str, Any]:
    """Collects what must agree for a checkpoint to be continued, and the versions, which need not.

    Where files lie, how batches travel and how often something is logged is left out; the number
    of steps counts only where the learning rate depends on it, or the method (`counts_steps`), that
    of devices only where each has batch statistics of its own.
    """
    train = config["train"]
    card = {name: config[name] for name in ("seed", "augment", "model", "method", "optim", "ema")}
    card["train"] = {k: train[k] for k in ("batch_size", "mu", "steps_per_epoch")}
    card["train"] |= {k: config["data"][k] for k in ("drop_last", "order")}
    if config["parallel"]["per_device_statistics"]:
        card["train"]["devices_with_statistics_of_their_own"] = num_devices
    if counts_steps or config["optim"]["schedule"] != "constant":
        card["train"]["steps"] = train["steps"]
    card["data"] = {
        "split_fingerprint": split.fingerprint,
        "class_names": source.class_names,
        "image_shape": source.train.image_shape,
        "labeled_counts": split.labeled_counts.tolist(),
        "num_unlabeled": len(split.unlabeled),
        "resize": config["data"]["resize"],
        "images": _images(source),
    }
    held_out = ("val_fraction", "test_fraction", "holdout_seed")
    card["data"] |= {name: config["data"]["source"][name] for name in held_out}
    return card | {"versions": versions()}


def _images(source: Source) -> str:
    """Returns a hash of what the images of all parts are called; nothing where they are not."""
    parts = [part for part in (source.train, source.val, source.test) if part is not None]
    names = ["\n".join(part.names) for part in parts if part.names is not None]
    return hash_of(*(name.encode("utf-8", "surrogateescape") for name in names)) if names else ""


def versions() -> dict[str, str]:
    """Lists the versions of the packages that a number may depend on."""
    installed = {name: importlib.metadata.version(name) for name in PACKAGES}
    return installed | {"ltssl_jax": ltssl_jax.__version__}


def commit() -> str | None:
    """Returns the commit of the checkout that this package runs from, and whether it was changed.

    None where it runs from no checkout: an installed package, or no git.
    """
    package = pathlib.Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", package, *words], capture_output=True, timeout=10)
        done.check_returncode()
        return done.stdout.decode().strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # it may lie in another one's checkout
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty= + changes")
    except (OSError, subprocess.SubprocessError):
        return None


def continued(before: Mapping[str, Any], now: Mapping[str, Any], step: int) -> Mapping[str, Any]:
    """Returns what `config.json` says of a run that goes on: what began it stays on record.

    Args:
      before: the content so far; empty where there is none.
      now: what it would say if the run began now: `command`, `commit`, `identity` and settings.
      step: how many are finished.

    Returns:
      The same as before where only the evaluation is left. Else `now` with the command, the commit
      and the versions of the beginning; `continued` has those of later, and the step they went on
      from.
    """
    if not (step and before.get("identity")):
        return now
    total, versions = now["train"]["steps"], now["identity"]["versions"]
    if step == total == before["train"]["steps"]:
        return before
    first = {name: before[name] for name in ("command", "commit") if name in before}
    identity = now["identity"] | {"versions": before["identity"].get("versions", versions)}
    later = [one for one in before.get("continued", ()) if one["step"] < step]
    if step < total:
        told = {name: now[name] for name in ("command", "commit")}
        later.append({"step": step, **told, "versions": versions})
    return {**now, **first, "identity": identity, "continued": later}


def warmup_steps(config: dict[str, Any]) -> int:
    """Returns after how many steps all parts of the method are at work."""
    per_epoch = config["train"]["steps_per_epoch"]
    return max((n * (per_epoch if u == "epochs" else 1) for _, n, u in _waits(config)), default=0)


def introduction(
    config: dict[str, Any], source: Source, split: Split, devices: str, state: TrainState
) -> Iterator[str]:
    """Yields the lines that a run begins with: resolved configuration, data, network, devices."""
    for name, block in config.items():
        yield f"config.{name}: " + (_line(block) if isinstance(block, dict) else str(block))
    counts, (height, width, channels) = split.labeled_counts, source.train.image_shape
    yield (
        f"data: {source.name}, {source.num_classes} classes, {height} x {width} x {channels};"
        f" {len(split.labeled):,} labeled (most {counts.max()}, fewest {counts.min()} a class),"
        f" {len(split.unlabeled):,} unlabeled ({int(split.is_labeled.sum()):,} of them labeled,"
        f" too), {len(source.val or split.validation):,} validation, {len(source.test):,} test"
    )
    if source.skipped:
        reasons = tally(s.reason for s in source.skipped)
        yield f"left out: {len(source.skipped):,} images, see skipped.csv: {reasons}"
    for note in source.notes:
        yield f"note: {note}"
    num_parameters = sum(np.size(x) for x in jax.tree.leaves(state.params))
    yield f"network: {num_parameters:,} parameters; split {split.fingerprint[:12]}"
    remembered = sum(np.asarray(x).nbytes for x in jax.tree.leaves(state.method_state))
    yield f"method: {config['method']['name']}, remembers {_size(remembered)} on every device"
    yield from _warmups(config)
    if code := commit():
        yield f"commit: {code}"
    yield f"devices: {devices}, mapped by {config['parallel']['mode']}"
    if "XLA_FLAGS" in os.environ:
        yield f"XLA_FLAGS: {os.environ['XLA_FLAGS']}"


def _waits(config: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Yields the fields of the method that let something wait, for how many, and of what."""
    for field, value in flatten_dict(config["method"], sep=".").items():
        if unit := WARMUPS.get(field.rpartition(".")[2]):
            yield field, value, unit


def _warmups(config: dict[str, Any]) -> Iterator[str]:
    """Names every warm-up that outlasts the training: nothing else would tell of it."""
    train = config["train"]
    for field, value, unit in _waits(config):
        number = -(-train["steps"] // (train["steps_per_epoch"] if unit == "epochs" else 1))
        if value >= number - 1:
            units = unit.removesuffix("s") if number == 1 else unit
            yield (
                f"note: method.{field} is {value:,}, training has {number:,} {units}: what the"
                " method does after it happens in the last of them at most; lower it, or raise"
                " train.steps"
            )


def _size(num_bytes: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:,.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:,.1f} GiB"


def _line(block: dict[str, Any]) -> str:
    return " ".join(f"{field}={value}" for field, value in flatten_dict(block, sep=".").items())
