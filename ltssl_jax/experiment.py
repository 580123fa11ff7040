"""The whole story on one page: from a configuration to a trained, evaluated, resumable run."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ltssl_jax import parallel, planning
from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.core import InputError, RawBatch, Resident, TrainState
from ltssl_jax.data import feed
from ltssl_jax.data.sources import Records, Skipped
from ltssl_jax.evaluation import evaluate, predictions
from ltssl_jax.evaluation.predictions import Predictions
from ltssl_jax.monitoring import card, pictures, sinks
from ltssl_jax.monitoring.alarms import Alarms, Facts
from ltssl_jax.monitoring.progress import progress
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.monitoring.sinks import Sink
from ltssl_jax.monitoring.terminal import Terminal
from ltssl_jax.monitoring.watch import Watch
from ltssl_jax.planning import Plan, Start, initial_state, plan, train_step
from ltssl_jax.training import loop
from ltssl_jax.training.step import EvalStep, make_eval_step, many

MOST_AT_ONCE = 50  # steps per dispatch: a tenth of a second, within which Ctrl-C is heard
POOL_SAMPLE = 2048  # unlabeled images of which it is kept what the network says of them
SEEN = 8  # unlabeled images of which the views are shown, where anything is
SHOWN = 48  # images of a set that are kept to be looked at
HELD_BYTES = 2**28  # evaluation sets up to this size stay on the devices between evaluations


def train(
    config: ConfigDict,
    workdir: str | os.PathLike,
    *,
    command: str = "",
    is_quiet: bool = False,
    start: Start | None = None,
) -> dict[str, Any]:
    """Trains, evaluates and checkpoints one run; continues it if `workdir` holds its beginning.

    Args:
      config: see `defaults.base`.
      workdir: the run's directory.
      command: what the user typed, kept in `config.json`.
      is_quiet: print nothing.
      start: what an earlier stage hands over; see `stages`.

    Returns:
      The content of `result.json`; empty if the run was interrupted, and can be continued.

    Raises:
      InputError: something in the configuration, the data or the directory cannot work.
    """
    with progress(is_quiet=is_quiet) as report:
        run = plan(config, report, start)
    watch = watcher(run, workdir, is_quiet=is_quiet)
    settings, identity = run.config.to_dict(), identity_card(run)
    step = run.runner.map(many(train_step(run)), batch_axis=1, num_shared=1, donate_state=True)
    eval_step = run.runner.map(evaluation_step(run))
    exam = examination(run, eval_step, watch)
    store = CheckpointStore(watch.records.path / "checkpoints", identity)
    with store, watch, loop.stop_signals() as is_interrupted:
        state = run.runner.replicate(restored(run, store))
        watch.records.write_table("skipped.csv", Skipped._fields, run.source.skipped)
        devices = parallel.describe(run.runner.devices)
        lines = [*card.introduction(settings, run.source, run.split, devices, state)]
        lines += [f"begins with: {run.start.story}"] if run.start.story else []
        ran = dict(command=command, commit=card.commit(), **settings, identity=identity)
        ran = watch.begin(int(state.step), lines, ran, opened_sinks(run, watch, int(state.step)))
        batches = training_feed(run, int(state.step), watch.terminal.reading)
        at_once = steps_at_once(run, batches.kind)
        watch.terminal.say(f"feed: {batches.kind}; updates per dispatch: {at_once}")
        state = loop.run(
            step,
            state,
            stacks(run, batches, int(state.step), at_once),
            run.runner.replicate(resident(run, batches)),
            total_steps=run.problem.total_steps,
            at_once=at_once,
            log_every=run.config.train.log_every,
            log=watch.log,
            compiled=watch.compiled,
            hooks=hooks(run, exam, store),
            refresh=refresh(run, eval_step),
            is_stopped=lambda n: store.is_preempted() or is_interrupted(),
        )
        if int(state.step) < run.problem.total_steps:
            store.save(state)
            return watch.interrupted(int(state.step))
        facts = dict(devices=devices, feed=batches.kind, best_step=store.best_step)
        facts["labeled_counts"] = run.problem.given_counts.tolist()
        confusions = exam.confusions(state)
        result = watch.finished(int(state.step), confusions, ran["identity"] | facts)
        keep_predictions(run, eval_step, store, state, watch)  # may fail without loss of the result
        return result


# --- the parts, in the order of the story ---------------------------------------------------------


def identity_card(run: Plan) -> dict[str, Any]:
    """Collects what must agree for a checkpoint to be continued."""
    made = card.identity(
        run.config.to_dict(),
        run.source,
        run.split,
        run.runner.num_devices,
        counts_steps=run.method.needs.total_steps,
    )
    return made | {"start": run.start.story}


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


def resident(run: Plan, batches: feed.Feed) -> Resident:
    """Returns what stays on the devices; the truth only where it is known of the whole pool."""
    is_known = (run.truth >= 0).all()
    return batches.resident.replace(truth=run.truth if is_known else None)


def stacks(run: Plan, batches: feed.Feed, start: int, at_once: int) -> Iterator[RawBatch]:
    """Yields what each dispatch receives: its batches, stacked and spread over the devices."""
    for size in loop.dispatches(start, run.problem.total_steps, at_once):
        rows = itertools.islice(batches.batches, size)
        yield run.runner.shard(jax.tree.map(lambda *x: np.stack(x), *rows), axis=1)


def steps_at_once(run: Plan, feed_kind: str) -> int:
    """Returns the updates per dispatch; where images travel and on processors, if not told, one."""
    is_many = run.runner.is_accelerated and feed_kind == "resident"
    most = MOST_AT_ONCE if is_many else 1
    return planning.steps_at_once(run.config, most=most, refresh_every=planning.refresh_every(run))


def evaluation_step(run: Plan) -> EvalStep:
    """Returns the pure evaluation step: for exams, for work on the pool, for the last word."""
    return make_eval_step(run.method, run.model, run.problem, run.views, axis=run.runner.axis)


def refresh(run: Plan, eval_step: EvalStep) -> loop.Refresh | None:
    """Lets the method work on the whole pool between steps, if it wants to."""
    if not (every := planning.refresh_every(run)):
        return None
    work = run.runner.once(run.method.refresh)
    batches = evaluation_batches(run, planning.pool(run))

    def act(state: TrainState) -> TrainState:
        answers = None
        if run.method.needs.pool:
            number = run.problem.num_unlabeled
            answers = evaluate.predictions(eval_step, state, batches(), number)
        return state.replace(method_state=work(state.method_state, state.step, answers))

    return loop.Refresh(every, act)


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
        kept_bytes=int(run.config.data.kept_gib * 2**30),
        drop_last=run.config.data.drop_last,
        order=run.config.data.order,
        balanced=run.method.needs.balanced,
        seed=run.config.seed,
        start=start,
        host=(jax.process_index(), jax.process_count()),
        progress=progress,
    )


def held_out(run: Plan) -> dict[str, Records]:
    """Returns what a run is evaluated on: the validation set, where there is one, and the test set.

    The first decides which checkpoint is the best. Without validation that is the test set, and
    "best" then means best on test, which no paper should report.
    """
    validation = run.source.val or run.source.train.take(run.split.validation)
    return ({"validation": validation} if len(validation) else {}) | {"test": run.source.test}


def examination(run: Plan, eval_step: EvalStep, watch: Watch) -> evaluate.Exam:
    """Evaluates on all that is held out."""
    sets = {name: evaluation_batches(run, records) for name, records in held_out(run).items()}
    return evaluate.Exam(eval_step, sets, watch.evaluated)


def predicted(run: Plan, eval_step: EvalStep, state: TrainState) -> dict[str, np.ndarray]:
    """Collects what a network says of all sets, and the mistakes it is surest of."""
    sample = predictions.evenly(len(run.split.unlabeled), POOL_SAMPLE)
    pool = run.source.train.take(run.split.unlabeled[sample])
    pool = dataclasses.replace(pool, labels=run.truth[sample])  # not what an earlier stage guessed
    found = {}
    for name, records in {**held_out(run), "pool": pool}.items():
        batches = evaluation_batches(run, records)()
        # Of a large set they fit into the memory of the host alone.
        parts = [np.asarray(part) for part in evaluate.logits(eval_step, state, batches)]
        logits = np.concatenate(parts)[: len(records)]
        shown = predictions.confident_mistakes(logits, records.labels, SHOWN)
        names = np.array(records.names or np.arange(len(records)), str)
        found[name] = Predictions(logits, records.labels, names, shown, records.read(shown))
    return predictions.arrays(found)


def keep_predictions(
    run: Plan, eval_step: EvalStep, store: CheckpointStore, state: TrainState, watch: Watch
) -> None:
    """Writes what the last network says of all sets, and the best one if it is another."""
    watch.records.write_arrays(predictions.FILE, predicted(run, eval_step, state))
    watch.records.remove(predictions.BEST_FILE)  # of a best one that may be surpassed
    if store.best_step in (None, int(state.step)):
        return
    try:
        best = run.runner.replicate(store.restore_or(state, store.best_step))
    except OSError as error:
        watch.terminal.say(f"no {predictions.BEST_FILE}: the best checkpoint is missing ({error})")
        return
    watch.records.write_arrays(predictions.BEST_FILE, predicted(run, eval_step, best))


def hooks(run: Plan, exam: evaluate.Exam, store: CheckpointStore) -> tuple[loop.Hook, ...]:
    """Evaluates and saves; in this order, so that a checkpoint knows what it is worth."""
    settings = run.config.train

    def save(step: int, state: TrainState) -> None:
        store.save(state, exam.score(step))

    return loop.Hook(settings.evaluate_every, exam), loop.Hook(settings.checkpoint_every, save)


def evaluation_batches(run: Plan, records: Records) -> evaluate.Batches:
    """Reads a set for evaluation, once if it is small enough to stay on the devices."""

    def read():
        size = run.config.train.eval_batch_size
        for batch in feed.evaluation(records, batch_size=size):
            yield run.runner.shard(run.runner.share(batch))

    is_small = len(records) * np.prod(records.image_shape) <= HELD_BYTES
    return evaluate.held(read) if is_small else read


def opened_sinks(run: Plan, watch: Watch, step: int) -> tuple[Sink, ...]:
    """Opens what follows the run beside `metrics.jsonl`, and shows it what is trained on."""
    if jax.process_index():
        return ()
    found = sinks.opened(watch.records.path, step, run.config.to_dict(), **run.config.monitoring)
    if found and not step:
        rows = run.split.unlabeled[predictions.evenly(len(run.split.unlabeled), SEEN)]
        sheet = pictures.views(run.views, run.source.train.read(rows), seed=run.config.seed)
        for sink in found:
            sink.picture("views", 0, sheet)
    return found


def watcher(run: Plan, workdir: str | os.PathLike, *, is_quiet: bool) -> Watch:
    """Opens the run directory and the terminal; of several processes only the first writes."""
    is_first = jax.process_index() == 0
    images_per_step = run.config.train.batch_size * (1 + run.config.train.mu)
    names, counts = run.source.class_names, run.problem.given_counts  # without pseudo-labels
    warmup = card.warmup_steps(run.config.to_dict())
    return Watch(
        RunDirectory(workdir, is_writer=is_first),
        Terminal(run.problem.total_steps, images_per_step, is_quiet=is_quiet or not is_first),
        Alarms(Facts(names, counts, run.problem.total_steps, warmup)),
        class_names=names,
        labeled_counts=counts,  # groups of classes stay those of the labels
        images_per_step=images_per_step,
        scored_by=lambda step: run.method.scored_by((step - 1) // run.problem.steps_per_epoch),
    )
