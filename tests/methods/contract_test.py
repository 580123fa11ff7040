"""Every method file of the package goes through the same trials; a new file is found by itself.

A class with defaults that cannot run, or with settings that deserve the same trials, exposes
`EXAMPLES`: methods, or dictionaries of settings.
"""

import copy
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, methods, parallel
from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.methods.tras import TRAS
from ltssl_jax.models.layers import BatchNorm, Pool
from ltssl_jax.models.network import Network
from ltssl_jax.training import optim, state
from ltssl_jax.training.ema import Averaging
from ltssl_jax.training.step import make_eval_step, make_train_step
from tests import documented
from tests.methods import every

COUNTS = np.array([3, 40, 1, 12, 7])  # by design not in the order of the classes
K, B, MU, STEPS, N_U = len(COUNTS), 16, 2, 3, 99
IMAGE = (6, 6, 1)


every_method = pytest.mark.parametrize(
    "method", [pytest.param(method, id=name) for name, method in every.kinds()]
)


class GivenViews:
    """Hands the batch on: views are made by the test."""

    def __call__(self, raw, resident, key, step):
        return raw

    def evaluation(self, images):
        return images


@functools.cache
def problem():
    is_labeled = np.arange(N_U) % 7 == 0
    return core.Problem(
        COUNTS, N_U, steps_per_epoch=2, total_steps=10, is_labeled=is_labeled, num_features=6
    )


class Backbone(nn.Module):
    """One convolution and one batch norm: what a method can meet, quick to compile."""

    axis_name: str | None
    branches: int = 1
    momentum: float = 0.1

    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(6, (3, 3), use_bias=False, name="conv")(images)
        x = BatchNorm(self.momentum, axis_name=self.axis_name)(x, train)
        return Pool(self.branches, self.axis_name, name="pool")(nn.tanh(x), train)


def network(method, axis):
    return Network(Backbone(axis, method.needs.branches), method.needs.heads, K)


def batch(method, step):
    rng = np.random.default_rng(step)

    def view(n):
        return jnp.asarray(rng.normal(size=(n, *IMAGE)), jnp.float32)

    def several(number, n):
        return tuple(view(n) for _ in range(number))

    def labeled():
        labels = jnp.asarray(rng.integers(K, size=B), jnp.int32)
        views = several(needs.labeled_strong, B), several(needs.contrastive, B)
        return core.Labeled(view(B), labels, jnp.arange(B), *views)

    needs, rows = method.needs, MU * B
    strong = several(needs.strong, rows)
    index = jnp.asarray(rng.permutation(N_U)[:rows], jnp.int32)
    views = several(needs.weak - 1, rows), several(needs.contrastive, rows)
    unlabeled = core.Unlabeled(view(rows), strong, index, *views)
    return core.Batch(labeled(), unlabeled, labeled() if needs.balanced else None)


class Trained:
    """A method on one runner: its start, and the compiled step."""

    def __init__(self, method, mode="jit", num_devices=1):
        self.method, self.problem, self.order = method, problem(), None
        self.runner = parallel.make(mode, num_devices=num_devices)
        self.model = network(method, self.runner.axis)
        # SGD: Adam's first steps would turn rounding into differences of the learning rate.
        self.optimizer = optim.make(name="sgd", learning_rate=0.05, total_steps=10)
        step = make_train_step(
            method,
            self.model,
            self.optimizer,
            self.problem,
            GivenViews(),
            averaging=Averaging(0.5),
            seed=3,
            axis=self.runner.axis,
        )
        self.traces = []  # the types of the state before and after, and of the metrics

        def counted(current, *args):
            after, metrics = step(current, *args)
            self.traces.append(jax.tree.map(jax.typeof, (current, after, metrics)))
            return after, metrics

        self.step = self.runner.map(counted, num_shared=1)
        is_refreshable = hasattr(method, "refresh_every")
        self.every = method.refresh_every(self.problem) if is_refreshable else 0
        self.refresh = self.runner.once(method.refresh) if self.every else None

    def start(self):
        return state.create(
            self.model, self.method, self.optimizer, self.problem, image_shape=IMAGE, seed=0
        )

    def run(self, current, first=0, last=STEPS, views=batch):
        """Steps `first` to `last`; returns the host's state and the metrics of each step."""
        current, metrics = self.runner.replicate(current), []
        for n in range(first, last):
            shard = self.runner.shard(views(self.method, n))
            current, m = self.step(current, shard, core.Resident())
            metrics.append(m)
            if self.every and (n + 1) % self.every == 0:
                current = self.refreshed(current, n)
        return jax.device_get((current, metrics))

    def refreshed(self, current, n):
        """What the method makes of the state between steps; the answers to the pool are given."""
        pool = np.random.default_rng(100 + n).normal(size=(N_U, K)).astype(np.float32)
        if self.order is not None:
            pool = pool[:, self.order]
        answers = self.runner.replicate(jnp.asarray(4 * pool)) if self.method.needs.pool else None
        return current.replace(
            method_state=self.refresh(current.method_state, current.step, answers)
        )


@functools.cache
def reference(method):
    """One device, jit: (trained, start, final state, metrics)."""
    trained = Trained(method)
    start = jax.device_get(trained.start())
    return trained, start, *trained.run(start)


def assert_close(ours, expected, **tolerance):
    tolerance = {"rtol": 2e-4, "atol": 2e-5} | tolerance
    jax.tree.map_with_path(
        lambda path, a, b: np.testing.assert_allclose(
            a, b, **tolerance, err_msg=jax.tree_util.keystr(path)
        ),
        ours,
        expected,
    )


@every_method
def test_is_frozen_and_says_what_it_is(method):
    assert type(method)(**vars(method)) == method
    assert type(method).__name__ in repr(method)
    assert method.scored_by(0) and method.scored_by(100)
    assert len({head.name for head in method.needs.heads}) == len(method.needs.heads)
    with pytest.raises(AttributeError):
        method.threshold = 0.1


@every_method
def test_state_keeps_structure_shape_and_dtype(method):
    _, start, final, _ = reference(method)
    assert jax.tree.structure(start) == jax.tree.structure(final)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(final), strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    assert final.step == STEPS


@every_method
def test_fits_into_a_loop_of_steps(method):
    """As accelerators make them; weak types or other structures than before would not fit."""
    trained, *_ = reference(method)
    ((before, after, metrics),) = trained.traces
    assert before == after
    assert documented.undocumented(metrics, "train") == []
    for name, value in metrics.items():
        assert value.shape == ((K,) if name.endswith("/kept") else ()), name


@every_method
def test_everything_stays_finite_and_moves(method):
    _, start, final, metrics = reference(method)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((final, metrics)))
    assert metrics[0]["grad_norm"] > 0
    for before, after in zip(
        jax.tree.leaves(start.params), jax.tree.leaves(final.params), strict=True
    ):
        # A head may wait for a warm-up; the backbone may not.
        assert before.ndim < 4 or not np.array_equal(before, after)


@every_method
def test_does_not_trace_again(method):
    trained, *_ = reference(method)
    assert len(trained.traces) == 1


@every_method
def test_eight_devices_equal_one(method, mode="pmap"):
    _, start, final, metrics = reference(method)
    ours = Trained(method, mode, num_devices=8).run(start)
    assert_close(ours, (final, metrics))


@pytest.mark.parametrize("mode", [mode for mode in parallel.MODES if mode != "pmap"])
def test_so_they_do_under_the_other_mappings(mode):
    """The step is the same function; one method with a phase and two heads stands for all."""
    test_eight_devices_equal_one(TRAS(threshold=0.2, warmup_epochs=0), mode)


@every_method
def test_saving_and_continuing_equals_never_stopping(method, tmp_path):
    trained, start, final, _ = reference(method)
    half, _ = trained.run(start, last=1)
    with CheckpointStore(tmp_path, {}) as store:
        store.save(half)
    with CheckpointStore(tmp_path, {}) as store:
        restored = store.restore_or(start)
    assert restored.step == 1
    continued, _ = trained.run(restored, first=1)
    jax.tree.map(np.testing.assert_array_equal, continued, final)


@every_method
def test_predicts_logits_for_every_class(method):
    trained, _, final, _ = reference(method)
    logits = method.predict(
        final.method_state,
        lambda images: trained.model.apply(
            {"params": final.params, "batch_stats": final.batch_stats}, images, False
        ),
        jnp.zeros((5, *IMAGE)),
        jnp.int32(1),
    )
    assert logits.shape == (5, K) and logits.dtype == jnp.float32


@every_method
def test_permuted_classes_permute_the_result_and_change_nothing_else(method):
    trained, start, final, metrics = reference(method)
    order = np.array([2, 0, 4, 3, 1])  # the new class j is the old class order[j]
    facts = problem()._replace(labeled_counts=COUNTS[order])

    def renumbered(stream):
        renamed = jnp.asarray(np.argsort(order), jnp.int32)
        return stream and stream.replace(label=renamed[stream.label])

    def views(method, step):
        original = batch(method, step)
        streams = {name: renumbered(getattr(original, name)) for name in ("labeled", "balanced")}
        return original.replace(**streams)

    # The counts reach a step through the method's own state alone, so the same step serves.
    begin = permuted(method, start, order)
    begin = begin.replace(method_state=jax.device_get(method.init(facts)))
    permuting = copy.copy(trained)
    permuting.order = order
    ours = permuting.run(begin, views=views)
    expected = [jax.tree.map(lambda x: x[order] if x.ndim else x, m) for m in metrics]
    assert_close(ours, (permuted(method, final, order), expected))


def permuted(method, current, order):
    """Reorders what belongs to classes: the last axis of their heads, and what methods remember."""
    ours = [f"classifier_{head.name}'" for head in method.needs.heads if head.size is None]

    def classes(path, x):
        is_head = any(name in jax.tree_util.keystr(path) for name in ours)
        return x[..., order] if is_head else x

    moved = {
        name: jax.tree.map_with_path(classes, getattr(current, name))
        for name in ("params", "opt_state", "ema")
    }
    remembered = jax.tree.map_with_path(
        lambda path, x: entries(path, x, order), current.method_state
    )
    return current.replace(**moved, method_state=remembered)


def entries(path, x, order):
    """State by class has K last or first; state whose name ends in `labels` holds classes."""
    if jax.tree_util.keystr(path, simple=True).endswith("labels"):
        return np.append(np.argsort(order), -1).astype(x.dtype)[x]  # -1 is no class
    if x.shape[-1:] == (K,):
        return x[..., order]
    return x[order] if x.shape[:1] == (K,) else x


@every_method
def test_unlabeled_classes_and_counts_are_never_asked_for(method):
    """What a method may know of the pool is its size."""
    assert set(core.Problem._fields) == {
        "labeled_counts",
        "num_unlabeled",
        "steps_per_epoch",
        "total_steps",
        "is_labeled",
        "given_counts",
        "num_features",
    }
    views = {"weak", "strong", "more_weak", "contrastive"}
    assert set(core.Unlabeled.__dataclass_fields__) == views | {"index"}


def test_evaluation_counts_each_image_once_on_any_number_of_devices():
    method = methods.make("tras")
    _, _, final, _ = reference(methods.make("tras"))
    images = np.random.default_rng(0).normal(size=(64, *IMAGE)).astype(np.float32)
    mask = (np.arange(64) < 61).astype(np.float32)
    labels = np.arange(64, dtype=np.int32) % K
    whole = core.EvalBatch(np.arange(64, dtype=np.int32), labels, mask, images)
    counts, logits = [], []
    for mode, num_devices in [("jit", 1), ("pmap", 8), ("shard_map", 8)]:
        runner = parallel.make(mode, num_devices=num_devices)
        step = make_eval_step(
            method, network(method, runner.axis), problem(), GivenViews(), axis=runner.axis
        )
        found = runner.map(step)(runner.replicate(final), runner.shard(whole))
        counts.append(np.asarray(found[0]))
        logits.append(np.asarray(found[1]))
    assert counts[0].sum() == 61
    np.testing.assert_array_equal(counts[0].sum(axis=1), np.bincount(labels[:61], minlength=K))
    np.testing.assert_array_equal(counts[0], counts[1])
    np.testing.assert_array_equal(counts[0], counts[2])
    for others in logits[1:]:  # of all images, in their order
        np.testing.assert_allclose(others, logits[0], rtol=1e-5, atol=1e-5)
