"""Reads a trained network back from its run directory, without the data it was trained on."""

import contextlib
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax import parallel, planning
from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.core import InputError, Method, Problem, TrainState, Views
from ltssl_jax.data.sources.images import Policy
from ltssl_jax.parallel import Runner
from ltssl_jax.training import state as state_
from ltssl_jax.training.forward import evaluate

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


@dataclass(frozen=True)
class Trained:
    """A network that is ready to predict.

    Attributes:
      config: the configuration of the run, resolved; where its images lay means nothing here.
      method, model, views, problem: what it says, built again.
      state: the checkpoint, on the host.
      class_names: `K` names.
      image_shape: `(H, W, C)` that the network was trained on.
      chosen: which checkpoint this is, and why, for people.
      runner: the devices that predict; those of the run do not matter.
      batch_size: images that all devices together predict at once.
    """

    config: ConfigDict
    method: Method
    model: nn.Module
    views: Views
    problem: Problem
    state: TrainState
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    chosen: str
    runner: Runner
    batch_size: int

    @property
    def policy(self) -> Policy:
        """How image files become arrays: as in training."""
        data = self.config.data
        return Policy(data.image_size, data.resize, self.image_shape[2])

    @property
    def scored_by(self) -> str:
        """Which head predicts, in a few words."""
        return self.method.scored_by(self._epoch)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns what `method.predict` says, by the EMA weights.

        Args:
          images: `[N, H, W, C]` uint8, of `image_shape`; of any number.

        Returns:
          `[N, K]` float32.

        Raises:
          InputError: the images have another shape or type.
        """
        if images.shape[1:] != self.image_shape or images.dtype != np.uint8:
            raise InputError(
                f"images are {images.dtype} {images.shape}; the network was trained on uint8"
                f" [N, {', '.join(map(str, self.image_shape))}]: make them that"
            )
        starts = range(0, len(images), self.batch_size)
        rows = [self._predicted(images[first : first + self.batch_size]) for first in starts]
        return np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *rows])

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the softmax of `logits`, `[N, K]` float32."""
        return softmax(self.logits(images))

    @property
    def _epoch(self) -> int:
        return max(int(self.state.step) - 1, 0) // self.problem.steps_per_epoch

    def _predicted(self, images: np.ndarray) -> np.ndarray:
        padding = np.zeros((self.batch_size - len(images), *self.image_shape), np.uint8)
        batch = self.runner.shard(np.concatenate([images, padding]))
        return np.asarray(self._step(self._weights, batch), np.float32)[: len(images)]

    @functools.cached_property
    def _weights(self) -> Any:
        return self.runner.replicate((self.state.ema, self.state.method_state))

    @functools.cached_property
    def _step(self):
        epoch = jnp.int32(self._epoch)

        def step(weights, images):
            ema, method_state = weights
            network = functools.partial(evaluate, self.model, ema)
            return self.method.predict(method_state, network, self.views.evaluation(images), epoch)

        return self.runner.map(step)


def load(
    run_dir: str | os.PathLike,
    which: str | int = "best",
    *,
    batch_size: int = 256,
    num_devices: int = 0,
) -> Trained:
    """Reads back a run, finished or not.

    Args:
      run_dir: the `--workdir` of the run.
      which: "best" on validation (without that: on test), "latest", or the step of a checkpoint.
      batch_size: images predicted at once; rounded up to a multiple of the devices.
      num_devices: that predict, whatever the run had; 0 takes all of this process.

    Raises:
      InputError: this is no run, or one of another version; or it has no such checkpoint.
    """
    InputError.check(batch_size > 0, "batch size", batch_size, "at least 1")
    path = pathlib.Path(run_dir)
    config, identity = _written(path)
    data, shape = identity["data"], tuple(identity["data"]["image_shape"])
    # Under `jit` the outputs of a batch stay spread over the devices.
    runner = parallel.make("jit", num_devices=num_devices)
    counts = np.asarray(data["labeled_counts"])
    parts = planning.assembled(config, runner, counts, data["num_unlabeled"])
    state, why = _restored(path, identity, which, _blank(config, parts, shape))
    return Trained(
        config=config,
        method=parts.method,
        model=parts.model,
        views=parts.views,
        problem=parts.problem,
        state=state,
        class_names=tuple(data["class_names"]),
        image_shape=shape,
        chosen=f"step {int(state.step)}, {why}",
        runner=runner,
        batch_size=-(-batch_size // runner.num_devices) * runner.num_devices,
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities `[N, K]` of logits `[N, K]`."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# --- what a run has written -----------------------------------------------------------------------


def _written(path: pathlib.Path) -> tuple[ConfigDict, dict[str, Any]]:
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
    settings.pop("command", None)
    return ConfigDict(_with_tuples(settings)), identity


def _needed() -> list[str]:
    return [f"{block}.{name}".lstrip(".") for block, names in _NEEDED.items() for name in names]


def _at(tree: Any, name: str) -> Any:
    for key in name.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _with_tuples(value: Any) -> Any:
    """JSON knows lists only; a configuration holds tuples."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _blank(config: ConfigDict, parts: planning.Parts, shape: tuple[int, int, int]) -> TrainState:
    """Returns zeros of the right structure, shapes and types: nothing is initialized."""
    like = jax.eval_shape(
        lambda: state_.create(
            parts.model,
            parts.method,
            parts.optimizer,
            parts.problem,
            image_shape=shape,
            seed=config.seed,
        )
    )
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)


def _restored(
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
