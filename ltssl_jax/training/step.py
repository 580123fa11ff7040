"""The train step and the evaluation step: pure, written once, for one device of any number."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from ltssl_jax.core import (
    Array,
    Context,
    Ema,
    EvalBatch,
    Kept,
    Method,
    Problem,
    PyTree,
    RawBatch,
    Resident,
    TrainState,
    Views,
)
from ltssl_jax.evaluation import confusion
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.training.audit import audited
from ltssl_jax.training.ema import Averaging
from ltssl_jax.training.forward import AxisDevices, ExampleKeys, NetworkForward, evaluate
from ltssl_jax.training.optim import Optimizer

TrainStep = Callable[[TrainState, RawBatch, Resident], tuple[TrainState, dict[str, Array]]]
EvalStep = Callable[[TrainState, EvalBatch], tuple[Array, Array]]


def make_train_step(
    method: Method,
    model: nn.Module,
    optimizer: Optimizer,
    problem: Problem,
    views: Views,
    *,
    averaging: Averaging,
    seed: int,
    axis: str | None,
    stack_views: bool = False,
) -> TrainStep:
    """Returns a pure `(state, raw batch, resident images) -> (state, metrics)`.

    The order is fixed here: gradient, optimizer, EMA, shrink. Metrics are averages over the
    devices, but counts of pseudo-labels by class, which are of all devices' images; `loss` is the
    sum of the `loss/…` contributions. Views and method never see the true classes of the pool.

    Args:
      method, model, optimizer, problem: what is trained, how, and the facts of the run.
      views: makes the float views from raw uint8 images.
      averaging: how the EMA follows.
      seed: of augmentation and of the method's randomness.
      axis: name of the mapped device axis, or None where one program sees the global batch.
      stack_views: see `NetworkForward`.
    """
    devices = AxisDevices(axis)

    def train_step(state: TrainState, raw: RawBatch, resident: Resident):
        root = jax.random.key(seed)
        view_key, method_key = (jax.random.fold_in(root, world) for world in (0, 1))
        batch = views(raw, resident.replace(truth=None), view_key, state.step)
        rng = ExampleKeys(jax.random.fold_in(method_key, state.step))
        epoch = state.step // problem.steps_per_epoch
        ctx = Context(state.step, epoch, rng, devices, problem.steps_per_epoch, problem.total_steps)

        def objective(params):
            params = optimizer.trainable(params)
            forward = NetworkForward(
                model, params, state.batch_stats, state.ema, stack_views=stack_views
            )
            loss = method.loss(state.method_state, forward, batch, ctx)
            total, contributions = reduce_terms(loss.terms, devices)
            return total, (contributions, loss, forward.batch_stats)

        (total, aux), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        contributions, loss, batch_stats = aux
        metrics = _metrics(total, contributions, loss.monitors)
        grads, batch_stats, metrics = devices.mean((grads, batch_stats, metrics))
        truth = None if resident.truth is None else resident.truth[raw.unlabeled.index]
        metrics |= devices.sum(audited(loss.monitors, truth, problem.labeled_counts.shape[0]))
        metrics |= {
            "grad_norm": optax.tree.norm(grads),
            "learning_rate": optimizer.learning_rate(state.step),
        }
        next_state = _advanced(state, grads, batch_stats, optimizer, averaging)
        return next_state.replace(method_state=lax.stop_gradient(loss.state)), metrics

    return train_step


def many(step: TrainStep) -> TrainStep:
    """Returns the step that makes several: of stacked batches `[T, ...]`, with average metrics.

    A device that is handed many steps at once never waits for Python. On processors hand it one at
    a time: XLA's convolutions are many times slower inside a loop there.
    """

    def steps(state: TrainState, batches: RawBatch, resident: Resident):
        if jax.tree.leaves(batches)[0].shape[0] == 1:
            return step(state, jax.tree.map(lambda x: x[0], batches), resident)
        state, metrics = lax.scan(lambda s, batch: step(s, batch, resident), state, batches)
        return state, jax.tree.map(lambda x: jnp.mean(x, axis=0), metrics)

    return steps


def _advanced(
    state: TrainState,
    grads: PyTree,
    batch_stats: PyTree,
    optimizer: Optimizer,
    averaging: Averaging,
) -> TrainState:
    updates, opt_state = optimizer.tx.update(grads, state.opt_state, state.params)
    params = optimizer.kept(optax.apply_updates(state.params, updates), state.params)
    batch_stats = optimizer.kept(batch_stats, state.batch_stats)
    ema = averaging.update(state.ema, params, batch_stats, state.step)
    ema = Ema(
        optimizer.kept(ema.params, state.ema.params),
        optimizer.kept(ema.batch_stats, state.ema.batch_stats),
    )
    params, batch_stats = optimizer.shrunk(params, batch_stats, state.step)
    return state.replace(
        step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )


def _metrics(total: Array, contributions: PyTree, monitors: PyTree) -> dict[str, Array]:
    metrics = {"loss": total}
    metrics |= {f"loss/{name}": value for name, value in contributions.items()}
    shown = {n: v.mask if isinstance(v, Kept) else v for n, v in monitors.items()}
    return metrics | {f"monitor/{name}": jnp.mean(value) for name, value in shown.items()}


def make_eval_step(
    method: Method,
    model: nn.Module,
    problem: Problem,
    views: Views,
    *,
    axis: str | None,
) -> EvalStep:
    """Returns a pure `(state, batch) -> (counts [K, K], logits [B, K])` of the EMA network.

    Rows of the counts are true classes, columns predictions; padding rows of the batch, and images
    of unknown class, count nothing. Both are of all devices' images.
    """
    devices = AxisDevices(axis)
    num_classes = problem.labeled_counts.shape[0]

    def eval_step(state: TrainState, batch: EvalBatch) -> tuple[Array, Array]:
        epoch = jnp.maximum(state.step - 1, 0) // problem.steps_per_epoch
        network = functools.partial(evaluate, model, state.ema)
        images = views.evaluation(batch.image)
        logits = method.predict(state.method_state, network, images, epoch)
        mask = batch.mask * (batch.label >= 0)
        counts = confusion.count(batch.label, jnp.argmax(logits, axis=-1), mask, num_classes)
        return devices.sum(counts), devices.gather(logits)

    return eval_step
