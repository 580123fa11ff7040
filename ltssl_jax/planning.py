"""What a configuration means: every part of a run, built and checked before it begins."""

from dataclasses import dataclass, replace

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax import methods, models, parallel
from ltssl_jax.augment import views
from ltssl_jax.core import InputError, Method, Problem, TrainState, Views
from ltssl_jax.data import growth, opening, statistics
from ltssl_jax.data.growth import Grown
from ltssl_jax.data.sources import Records, Source
from ltssl_jax.data.sources.base import Progress
from ltssl_jax.data.splits import Split
from ltssl_jax.parallel import Runner
from ltssl_jax.training import loop, optim
from ltssl_jax.training import state as state_
from ltssl_jax.training.ema import Averaging
from ltssl_jax.training.optim import Optimizer
from ltssl_jax.training.step import TrainStep, make_train_step


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a configuration means, whatever the images are."""

    runner: Runner
    method: Method
    model: nn.Module
    problem: Problem
    optimizer: Optimizer
    views: Views


@dataclass(frozen=True)
class Start:
    """What a stage takes over from the one before it.

    Attributes:
      grown: pseudo-labels.
      fingerprint: of the split whose pool they label.
      weights: the state whose weights it begins with, or None to begin from scratch.
      part: "backbone" or "network", the weights that are taken over.
      story: what it is a continuation of, for the identity card.
    """

    grown: Grown = Grown.nothing()
    fingerprint: str = ""
    weights: TrainState | None = None
    part: str = "network"
    story: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan(Parts):
    """What a configuration means: every part of the pipeline, built and checked.

    Attributes:
      truth: `[N_u]` int32, true classes of the pool, -1 where unknown; for reports only.
    """

    config: ConfigDict
    source: Source
    split: Split
    truth: np.ndarray
    start: Start = Start()


def plan(config: ConfigDict, progress: Progress | None = None, start: Start | None = None) -> Plan:
    """Builds the parts of a run from its configuration (see `defaults.base`).

    Args:
      config: what the user wants.
      progress: called while files are looked at.
      start: what an earlier stage hands over.

    Raises:
      InputError: something in the configuration or the data cannot work.
    """
    runner = parallel.make(config.parallel.mode, num_devices=config.parallel.num_devices)
    check_counts(config, runner)
    source, split = load_data(config, progress)
    config, start = with_channel_statistics(config, source, split), start or Start()
    check_start(config, split, start)
    truth = source.train.labels[split.unlabeled].astype(np.int32)  # before pseudo-labels replace it
    source, grown = growth.applied(source, split, start.grown)
    parts = assembled(
        config,
        runner,
        grown.labeled_counts,
        len(split.unlabeled),
        is_labeled=grown.is_labeled,
        given_counts=split.labeled_counts,
    )
    known = dict(source=source, split=grown, truth=truth)
    return Plan(config=config, start=start, **known, **vars(parts))


def check_start(config: ConfigDict, split: Split, start: Start) -> None:
    """Refuses pseudo-labels of another pool, and a frozen backbone that nobody has trained."""
    if start.fingerprint and start.fingerprint != split.fingerprint:
        raise InputError(
            f"the pseudo-labels of this stage are of the split {start.fingerprint[:12]}, the images"
            f" of {split.fingerprint[:12]}; the data have changed: give another --workdir"
        )
    if config.optim.is_frozen and start.weights is None:
        raise InputError(
            "optim.is_frozen is True, but no stage before has trained a backbone; give the stage"
            " begin='backbone' or 'network', or set optim.is_frozen=False"
        )


def assembled(
    config: ConfigDict,
    runner: Runner,
    labeled_counts: np.ndarray,
    num_unlabeled: int,
    *,
    is_labeled: np.ndarray | None = None,
    given_counts: np.ndarray | None = None,
) -> Parts:
    """Builds what needs no image: a trained network is read back without the data."""
    method = methods.make(**config.method.to_dict())
    model = models.make(
        **config.model,
        num_classes=len(labeled_counts),
        heads=method.needs.heads,
        branches=method.needs.branches,
        is_frozen=config.optim.is_frozen,
        axis_name=None if config.parallel.per_device_statistics else runner.axis,
    )
    problem = Problem(
        labeled_counts=labeled_counts,
        num_unlabeled=num_unlabeled,
        steps_per_epoch=config.train.steps_per_epoch,
        total_steps=config.train.steps,
        is_labeled=is_labeled,
        num_features=model.backbone.num_features,
        given_counts=given_counts,
    )
    optimizer = optim.make(**config.optim, total_steps=problem.total_steps)
    recipe = views.make(**config.augment, needs=method.needs)
    return Parts(
        runner=runner,
        method=method,
        model=model,
        problem=problem,
        optimizer=optimizer,
        views=recipe,
    )


def check_counts(config: ConfigDict, runner: Runner) -> None:
    """Refuses counts out of range and batches that do not divide among the devices."""
    InputError.check(config.seed >= 0, "seed", config.seed, "0 or positive")
    if config.parallel.per_device_statistics and runner.axis is None:
        raise InputError(
            "parallel.per_device_statistics is True, but parallel.mode='jit' sees the global batch"
            " only; use 'pmap' or 'shard_map'"
        )
    for field, value in config.train.items():
        if value < 1:
            raise InputError(f"train.{field} is {value}; it must be at least 1")
    steps_at_once(config, most=1)
    runner.check_batch("train.batch_size", config.train.batch_size)
    runner.check_batch("train.eval_batch_size", config.train.eval_batch_size)


def steps_at_once(config: ConfigDict, *, most: int, refresh_every: int = 0) -> int:
    """Returns the updates per dispatch: what is asked for, or up to `most`.

    Raises:
      InputError: what is asked for does not divide what falls between dispatches.
    """
    counted = {f"train.{k}": n for k, n in config.train.items() if k.endswith("_every")}
    if refresh_every:
        counted["the method's steps between two refreshes"] = refresh_every
    return loop.steps_at_once(config.parallel.steps_at_once, counted, most=most)


def refresh_every(parts: Parts) -> int:
    """Returns after how many steps the method has work on the whole pool; 0 if it never has."""
    is_refreshable = hasattr(parts.method, "refresh_every")
    return parts.method.refresh_every(parts.problem) if is_refreshable else 0


def load_data(config: ConfigDict, progress: Progress | None = None) -> tuple[Source, Split]:
    """Opens the source and cuts the split out of its training set."""
    images = ("image_size", "resize", "channels")
    return opening.opened(
        config.data.source.to_dict(),
        config.data.split.to_dict(),
        progress=progress,
        **{name: config.data[name] for name in images},
    )


def pool(run: Plan) -> Records:
    """Returns the unlabeled images, in the order of the split, without their classes."""
    records = run.source.train.take(run.split.unlabeled)
    return replace(records, labels=np.full(len(records), -1, np.int32))


def with_channel_statistics(config: ConfigDict, source: Source, split: Split) -> ConfigDict:
    """Measures mean and standard deviation on the training images where the config gives none."""
    config = config.copy_and_resolve_references().unlock()
    if bool(config.augment.mean) != bool(config.augment.std):
        raise InputError(
            f"augment.mean is {config.augment.mean} and augment.std is {config.augment.std};"
            " give both, or neither to have them measured on the training images"
        )
    if not config.augment.mean:
        positions = np.union1d(split.labeled, split.unlabeled)
        config.augment.mean, config.augment.std = statistics.of_channels(source.train, positions)
    return config


def initial_state(run: Plan) -> TrainState:
    """Returns step 0, with the weights of an earlier stage if there is one."""
    fresh = state_.create(
        run.model,
        run.method,
        run.optimizer,
        run.problem,
        image_shape=run.source.train.image_shape,
        seed=run.config.seed,
    )
    if run.start.weights is None:
        return fresh
    is_frozen = run.config.optim.is_frozen
    return state_.with_weights(fresh, run.start.weights, run.start.part, is_averaged=is_frozen)


def train_step(run: Plan) -> TrainStep:
    """Returns the pure train step."""
    return make_train_step(
        run.method,
        run.model,
        run.optimizer,
        run.problem,
        run.views,
        averaging=Averaging(**run.config.ema),
        seed=run.config.seed,
        axis=run.runner.axis,
        stack_views=run.runner.stacks(run.config.parallel.stack_views),
    )
