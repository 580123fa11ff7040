"""Reads a trained network back from its run directory, without the data it was trained on."""

import functools
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax import parallel, planning, written
from ltssl_jax.core import Array, InputError, Method, Problem, PyTree, TrainState, Views
from ltssl_jax.data.sources.images import Policy
from ltssl_jax.evaluation.predictions import softmax
from ltssl_jax.parallel import Runner
from ltssl_jax.training import state as state_
from ltssl_jax.training.forward import evaluate


class Answers(NamedTuple):
    """Logits `[N, K]` and features `[N, D]` of N images, float32."""

    logits: np.ndarray
    features: np.ndarray


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
      directory: of the run, or of the stage, that it was read from; None if from nowhere.
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
    directory: pathlib.Path | None = None

    def __reduce__(self):
        # Compiled programs and devices stay here; so does what only training needs.
        problem, state = self.problem, self.state
        data = dict(
            class_names=self.class_names,
            image_shape=self.image_shape,
            labeled_counts=np.asarray(problem.labeled_counts),
            num_unlabeled=problem.num_unlabeled,
        )
        state = state.replace(params=(), batch_stats=(), opt_state=())
        where = dict(batch_size=self.batch_size, num_devices=self.runner.num_devices)
        return rebuilt, (self.config.to_dict(), data, state, self.chosen, where)

    @property
    def policy(self) -> Policy:
        """How image files become arrays: as in training."""
        data = self.config.data
        return Policy(data.image_size, data.resize, self.image_shape[2])

    @property
    def scored_by(self) -> str:
        """Which head predicts, in a few words."""
        return self.method.scored_by(self._epoch)

    def answers(self, images: np.ndarray) -> Answers:
        """Returns what the method predicts, and what the backbone makes of it, by the EMA weights.

        Args:
          images: `[N, H, W, C]` uint8, of `image_shape`; of any number.

        Raises:
          InputError: the images have another shape or type.
        """
        if images.shape[1:] != self.image_shape or images.dtype != np.uint8:
            raise InputError(
                f"images are {images.dtype} {images.shape}; the network was trained on uint8"
                f" [N, {', '.join(map(str, self.image_shape))}]: make them that"
            )
        starts = range(0, max(len(images), 1), self.batch_size)
        rows = [self._batch(images[first : first + self.batch_size]) for first in starts]
        return Answers(*map(np.concatenate, zip(*rows, strict=True)))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Returns what the method predicts, `[N, K]` float32; else as `answers`."""
        return self.answers(images).logits

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the softmax of `logits`, `[N, K]` float32."""
        return softmax(self.logits(images))

    @property
    def weights(self) -> PyTree:
        """What `outputs` reads of the checkpoint."""
        return self.state.ema, self.state.method_state

    def outputs(self, weights: PyTree, images: Array) -> tuple[Array, Array]:
        """Returns logits and features of uint8 images; pure, for those who compile it."""
        ema, method_state = weights
        network = functools.partial(evaluate, self.model, ema)
        views = self.views.evaluation(images)
        features = network(views).features  # computed once: XLA sees that it is asked twice
        logits = self.method.predict(method_state, network, views, jnp.int32(self._epoch))
        return logits, features.reshape(features.shape[0], -1)  # branches side by side

    @property
    def _epoch(self) -> int:
        return max(int(self.state.step) - 1, 0) // self.problem.steps_per_epoch

    def _batch(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        padding = np.zeros((self.batch_size - len(images), *self.image_shape), np.uint8)
        batch = self.runner.shard(np.concatenate([images, padding]))
        rows = self._step(self._placed, batch)
        return tuple(np.asarray(x, np.float32)[: len(images)] for x in rows)

    @functools.cached_property
    def _placed(self) -> PyTree:
        return self.runner.replicate(self.weights)

    @functools.cached_property
    def _step(self):
        return self.runner.map(self.outputs)


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
    path = written.last_stage(pathlib.Path(run_dir))
    config, identity = written.identified(path)
    network = untrained(config, identity["data"], batch_size=batch_size, num_devices=num_devices)
    state, why = written.restored(path, identity, which, network.state)
    chosen = f"step {int(state.step)}, {why}"
    return replace(network, state=state, chosen=chosen, directory=path)


def untrained(
    config: ConfigDict, data: Mapping[str, Any], *, batch_size: int = 256, num_devices: int = 0
) -> Trained:
    """Builds the network of a run, with zeros for weights.

    Args:
      config: of the run; of `data` only what concerns images.
      data: of its identity card: class_names, image_shape, labeled_counts, num_unlabeled.
      batch_size, num_devices: as in `load`.
    """
    # Under `jit` the outputs of a batch stay spread over the devices.
    runner = parallel.make("jit", num_devices=num_devices, is_local=True)
    shape, counts = tuple(data["image_shape"]), np.asarray(data["labeled_counts"])
    parts = planning.assembled(config, runner, counts, data["num_unlabeled"])
    return Trained(
        config=config,
        method=parts.method,
        model=parts.model,
        views=parts.views,
        problem=parts.problem,
        state=_blank(config, parts, shape),
        class_names=tuple(data["class_names"]),
        image_shape=shape,
        chosen="untrained",
        runner=runner,
        batch_size=-(-batch_size // runner.num_devices) * runner.num_devices,
    )


def rebuilt(
    config: dict[str, Any],
    data: Mapping[str, Any],
    state: TrainState,
    chosen: str,
    where: Mapping[str, int],
) -> Trained:
    """Returns the network that was pickled; no file is needed.

    Args:
      config, data: see `untrained`.
      state: on the host; `step`, `ema` and `method_state` are used.
      chosen: which checkpoint it was, and why.
      where: `batch_size`, and `num_devices` unless there are fewer here.
    """
    network = untrained(ConfigDict(config), data, **where)
    return replace(network, state=state, chosen=chosen)


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
