"""The whole story on one page: from a configuration to a trained, evaluated, resumable run."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax import methods, models, parallel
from ltssl_jax.augment import views
from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.core import InputError, Method, Problem, RawBatch, TrainState, Views
from ltssl_jax.data import feed, sources, splits
from ltssl_jax.data.sources import Records, Source
from ltssl_jax.data.splits import Split
from ltssl_jax.evaluation import evaluate
from ltssl_jax.parallel import Runner
from ltssl_jax.report import card
from ltssl_jax.report.records import RunDirectory
from ltssl_jax.report.terminal import Terminal
from ltssl_jax.report.watch import Watch
from ltssl_jax.training import loop, optim
from ltssl_jax.training import state as state_
from ltssl_jax.training.ema import Averaging
from ltssl_jax.training.optim import Optimizer
from ltssl_jax.training.step import TrainStep, make_eval_step, make_train_step, many

MOST_AT_ONCE = 50  # steps per dispatch: a tenth of a second, within which Ctrl-C is heard
HELD_BYTES = 2**28  # evaluation sets up to this size stay on the devices between evaluations


class Plan(NamedTuple):
    """What a configuration means: every part of the pipeline, built and checked."""

    config: ConfigDict
    source: Source
    split: Split
    runner: Runner
    method: Method
    model: nn.Module
    problem: Problem
    optimizer: Optimizer
    views: Views


def plan(config: ConfigDict) -> Plan:
    """Builds the parts of a run from its configuration (see `defaults.base`).

    Raises:
      InputError: something in the configuration or the data cannot work.
    """
    runner = parallel.make(config.parallel.mode, num_devices=config.parallel.num_devices)
    check_counts(config, runner)
    source, split = load_data(config)
    config = with_channel_statistics(config, source, split)
    method = methods.make(**config.method.to_dict())
    model = models.make(
        **config.model,
        num_classes=source.num_classes,
        heads=method.needs.heads,
        axis_name=None if config.parallel.per_device_statistics else runner.axis,
    )
    problem = Problem(
        labeled_counts=split.labeled_counts,
        num_unlabeled=len(split.unlabeled),
        steps_per_epoch=config.train.steps_per_epoch,
        total_steps=config.train.steps,
    )
    optimizer = optim.make(**config.optim, total_steps=problem.total_steps)
    recipe = views.make(**config.augment, needs=method.needs)
    return Plan(config, source, split, runner, method, model, problem, optimizer, recipe)


def train(
    config: ConfigDict, workdir: str | os.PathLike, *, command: str = "", is_quiet: bool = False
) -> dict[str, Any]:
    """Trains, evaluates and checkpoints one run; continues it if `workdir` holds its beginning.

    Args:
      config: see `defaults.base`.
      workdir: the run's directory.
      command: what the user typed, kept in `config.json`.
      is_quiet: print nothing.

    Returns:
      The content of `result.json`; empty if the run was interrupted, and can be continued.

    Raises:
      InputError: something in the configuration, the data or the directory cannot work.
    """
    run = plan(config)
    watch = watcher(run, workdir, is_quiet=is_quiet)
    settings = run.config.to_dict()
    identity = card.identity(settings, run.source, run.split, run.runner.num_devices)
    step = run.runner.map(many(train_step(run)), batch_axis=1, num_shared=1, donate_state=True)
    exam = examination(run, watch)
    store = CheckpointStore(watch.records.path / "checkpoints", identity)
    with store, watch.terminal, loop.stop_signals() as is_interrupted:
        state = run.runner.replicate(restored(run, store))
        devices = parallel.describe(run.runner.devices)
        lines = card.introduction(settings, run.source, run.split, devices, state)
        watch.begin(int(state.step), lines, dict(command=command, **settings, identity=identity))
        batches = training_feed(run, int(state.step), watch.terminal.reading)
        at_once = steps_at_once(run, batches.kind)
        watch.terminal.say(f"feed: {batches.kind}; updates per dispatch: {at_once}")
        state = loop.run(
            step,
            state,
            stacks(run, batches, int(state.step), at_once),
            run.runner.replicate(batches.resident),
            total_steps=run.problem.total_steps,
            at_once=at_once,
            log_every=run.config.train.log_every,
            log=watch.log,
            compiled=watch.compiled,
            hooks=hooks(run, exam, store),
            is_stopped=lambda n: store.is_preempted() or is_interrupted(),
        )
        if int(state.step) < run.problem.total_steps:
            store.save(state)
            return watch.interrupted(int(state.step))
        facts = dict(devices=devices, feed=batches.kind)
        return watch.finished(int(state.step), exam.confusions(state), identity | facts)


# --- the parts, in the order of the story ---------------------------------------------------------


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
    loop.steps_at_once(config.parallel.steps_at_once, config.train, most=1)
    runner.check_batch("train.batch_size", config.train.batch_size)
    runner.check_batch("train.eval_batch_size", config.train.eval_batch_size)


def load_data(config: ConfigDict) -> tuple[Source, Split]:
    """Opens the source and cuts the long-tailed split out of its training set."""
    data = config.data
    source = sources.load(
        data.source,
        name=data.name,
        root=data.root,
        image_size=data.image_size,
        download=data.download,
    )
    labels = source.train.labels
    split = splits.long_tailed(labels, num_classes=source.num_classes, **data.split.to_dict())
    return source, split


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
        config.augment.mean, config.augment.std = feed.channel_statistics(source.train, positions)
    return config


def initial_state(run: Plan) -> TrainState:
    """Returns step 0."""
    return state_.create(
        run.model,
        run.method,
        run.optimizer,
        run.problem,
        image_shape=run.source.train.image_shape,
        seed=run.config.seed,
    )


def restored(run: Plan, store: CheckpointStore) -> TrainState:
    """Returns the newest checkpoint, or step 0 where there is none.

    Raises:
      InputError: the checkpoint is of another experiment, or of a longer run.
    """
    state = store.restore_or(initial_state(run))
    if state.step > run.problem.total_steps:
        raise InputError(
            f"the checkpoint is of step {int(state.step)}, beyond train.steps"
            f" {run.problem.total_steps}; raise train.steps or choose another --workdir"
        )
    return state


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


def stacks(run: Plan, batches: feed.Feed, start: int, at_once: int) -> Iterator[RawBatch]:
    """Yields what each dispatch receives: its batches, stacked and spread over the devices."""
    for size in loop.dispatches(start, run.problem.total_steps, at_once):
        rows = itertools.islice(batches.batches, size)
        yield run.runner.shard(jax.tree.map(lambda *x: np.stack(x), *rows), axis=1)


def steps_at_once(run: Plan, feed_kind: str) -> int:
    """Returns the updates per dispatch; where images travel and on processors, if not told, one."""
    is_many = run.runner.is_accelerated and feed_kind == "resident"
    asked = run.config.parallel.steps_at_once
    return loop.steps_at_once(asked, run.config.train, most=MOST_AT_ONCE if is_many else 1)


def training_feed(
    run: Plan, start: int, progress: Callable[[int, int], None] | None = None
) -> feed.Feed:
    """Feeds this process's batches from step `start` on."""
    return feed.training(
        run.source.train,
        run.split,
        batch_size=run.config.train.batch_size,
        mu=run.config.train.mu,
        kind=run.config.data.feed,
        drop_last=run.config.data.drop_last,
        seed=run.config.seed,
        start=start,
        host=(jax.process_index(), jax.process_count()),
        progress=progress,
    )


def examination(run: Plan, watch: Watch) -> evaluate.Exam:
    """Evaluates on the validation set, where there is one, and on the test set.

    The first decides which checkpoint is the best. Without validation that is the test set, and
    "best" then means best on test, which no paper should report.
    """
    step = make_eval_step(run.method, run.model, run.problem, run.views, axis=run.runner.axis)
    test = run.source.test
    sets = {"test": evaluation_batches(run, test, np.arange(len(test.labels)))}
    if len(run.split.validation):
        held_out = evaluation_batches(run, run.source.train, run.split.validation)
        sets = {"validation": held_out} | sets
    return evaluate.Exam(run.runner.map(step), sets, watch.evaluated)


def hooks(run: Plan, exam: evaluate.Exam, store: CheckpointStore) -> tuple[loop.Hook, ...]:
    """Evaluates and saves; in this order, so that a checkpoint knows what it is worth."""
    settings = run.config.train

    def save(step: int, state: TrainState) -> None:
        store.save(state, exam.score(step))

    return loop.Hook(settings.evaluate_every, exam), loop.Hook(settings.checkpoint_every, save)


def evaluation_batches(run: Plan, records: Records, positions: np.ndarray) -> evaluate.Batches:
    """Reads a set for evaluation, once if it is small enough to stay on the devices."""

    def read():
        size = run.config.train.eval_batch_size
        for batch in feed.evaluation(records, positions, batch_size=size):
            yield run.runner.shard(run.runner.share(batch))

    is_small = len(positions) * np.prod(records.image_shape) <= HELD_BYTES
    return evaluate.held(read) if is_small else read


def watcher(run: Plan, workdir: str | os.PathLike, *, is_quiet: bool) -> Watch:
    """Opens the run directory and the terminal; of several processes only the first writes."""
    is_first = jax.process_index() == 0
    images_per_step = run.config.train.batch_size * (1 + run.config.train.mu)
    return Watch(
        RunDirectory(workdir, is_writer=is_first),
        Terminal(run.problem.total_steps, images_per_step, is_quiet=is_quiet or not is_first),
        class_names=run.source.class_names,
        labeled_counts=run.split.labeled_counts,
        images_per_step=images_per_step,
        scored_by=lambda step: run.method.scored_by((step - 1) // run.problem.steps_per_epoch),
    )
