"""The one train step: what it reports, what it differentiates, how often it is compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltssl_jax import core
from ltssl_jax.losses.classification import cross_entropy
from ltssl_jax.training import optim
from tests import toy

NUM_STEPS = 3
SGD = optim.make(
    name="sgd", learning_rate=0.1, schedule="cosine_7_16", momentum=0.0, total_steps=toy.PROBLEM[3]
)


@pytest.fixture(scope="module")
def run():
    states, metrics = toy.train(NUM_STEPS, optimizer=SGD)
    return jax.device_get(states), jax.device_get(metrics)


def test_metrics_have_fixed_names(run):
    expected = {
        "loss",
        "loss/supervised",
        "loss/consistency",
        "monitor/label",
        "monitor/epoch",
        "monitor/mask/base",
        "grad_norm",
        "learning_rate",
        "pseudo/seen",
    }
    by_class = {"pseudo/true", "pseudo/base/kept", "pseudo/base/correct"}
    for metrics in run[1]:
        assert metrics.keys() == expected | by_class
        for name, value in metrics.items():
            assert np.shape(value) == ((toy.NUM_CLASSES,) if name in by_class else ()), name


def test_loss_is_the_sum_of_its_terms(run):
    for metrics in run[1]:
        terms = metrics["loss/supervised"] + metrics["loss/consistency"]
        np.testing.assert_allclose(metrics["loss"], terms, rtol=1e-6)
        assert metrics["loss/consistency"] > 0


def test_monitors_are_averages(run):
    for n, metrics in enumerate(run[1]):
        mean = np.mean(toy.batch(seed=n).labeled.label)
        np.testing.assert_allclose(metrics["monitor/label"], mean, rtol=1e-6)


def test_step_epoch_and_learning_rate_count_updates(run):
    states, metrics = run
    assert [int(state.step) for state in states] == [0, 1, 2, 3]
    assert [m["monitor/epoch"] for m in metrics] == [0, 0, 1]
    rates = 0.1 * np.cos(7 * np.pi * np.arange(NUM_STEPS) / 160)
    np.testing.assert_allclose([m["learning_rate"] for m in metrics], rates, rtol=1e-5)


def test_grad_norm_is_that_of_the_gradient(run):
    states, metrics = run
    for before, after, m in zip(states[:-1], states[1:], metrics, strict=True):
        moved = optax.tree.norm(optax.tree.sub(after.params, before.params))
        np.testing.assert_allclose(m["grad_norm"], moved / m["learning_rate"], rtol=1e-4)


def test_random_masks_differ_from_step_to_step(run):
    assert len({float(m["monitor/mask/base"]) for m in run[1]}) > 1


def test_the_method_state_moves_on(run):
    states, _ = run
    assert not np.allclose(states[1].method_state["probs"], states[0].method_state["probs"])


def test_training_lowers_the_loss():
    state, step, batch = toy.initial_state(), jax.jit(toy.train_step()), toy.batch()
    losses = []
    for _ in range(10):
        state, metrics = step(state, batch, core.Resident())
        losses.append(float(metrics["loss/supervised"]))
    assert losses[-1] < 0.9 * losses[0]


@dataclasses.dataclass(frozen=True)
class Remembering:
    """Keeps its logits as they are, and forgets to stop the gradient."""

    needs = core.Needs()

    def init(self, problem):
        return jnp.zeros((16, toy.NUM_CLASSES))

    def loss(self, method_state, forward, batch, ctx):
        logits = forward(batch.labeled.image).logits["base"]
        term = core.Term(cross_entropy(logits, batch.labeled.label))
        return core.Loss({"supervised": term}, logits, {})


def test_no_gradient_reaches_the_method_state():
    method = Remembering()
    start, step = toy.initial_state(method=method), toy.train_step(method=method)

    def remembered(params):
        return jnp.sum(
            step(start.replace(params=params), toy.batch(), core.Resident())[0].method_state ** 2
        )

    value, gradient = jax.jit(jax.value_and_grad(remembered))(start.params)
    assert value > 0
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradient)


class Compilations:
    """Counts what the backend compiles (or finds in the cache) while it is listening."""

    def __init__(self):
        self.count = 0

    def __call__(self, event, seconds, **_):
        self.count += "backend_compile" in event


@pytest.fixture
def compilations():
    listener = Compilations()
    jax.monitoring.register_event_duration_secs_listener(listener)
    yield listener
    jax.monitoring.unregister_event_duration_listener(listener)


@pytest.mark.parametrize("mode", ["pmap", "shard_map", "jit"])
def test_one_compilation_per_run_and_the_old_state_is_donated(mode, compilations):
    runner, state, step = toy.trainer(mode=mode, num_devices=8, donate_state=True)
    counts = []
    for n in range(3):
        old, batch, before = state, runner.shard(toy.batch(seed=n)), compilations.count
        state, metrics = step(old, batch, core.Resident())
        counts.append(compilations.count - before)
        assert all(x.is_deleted() for x in jax.tree.leaves(old))
    assert counts == [1, 0, 0]
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves((state, metrics)))
