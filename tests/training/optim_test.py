"""Optimizers against float64 transcriptions of PyTorch's, schedules and the shrink."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.training import optim

RNG = np.random.default_rng(0)
NUM_STEPS = 6
SHAPES = {
    "conv": {"kernel": (3, 3, 1, 2)},
    "bn": {"scale": (2,), "bias": (2,)},
    "late": {"kernel": (2, 3), "bias": (3,)},
}


def random_tree():
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return jax.tree.map(RNG.standard_normal, SHAPES, is_leaf=is_shape)


def random_gradients():
    """`late` gets its first gradient at the fourth step; `bn` has a zero one in between."""
    gradients = [random_tree() for _ in range(NUM_STEPS)]
    for n, tree in enumerate(gradients):
        tree["late"] = jax.tree.map(lambda g, n=n: g * (n >= 3), tree["late"])
        tree["bn"] = jax.tree.map(lambda g, n=n: g * (n != 2), tree["bn"])
    return gradients


def float32(tree):
    return jax.tree.map(jnp.float32, tree)


def optimize(optimizer, params, gradients):
    @jax.jit
    def step(params, opt_state, gradient):
        updates, opt_state = optimizer.tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = float32(params)
    opt_state = optimizer.tx.init(params)
    for gradient in gradients:
        params, opt_state = step(params, opt_state, float32(gradient))
    return params


def torch_sgd(param, gradients, *, rates, weight_decay, momentum=0.9):
    """`torch.optim.SGD(nesterov=True)` on one tensor."""
    buffer = np.zeros_like(param)
    for gradient, rate in zip(gradients, rates, strict=True):
        gradient = gradient + weight_decay * param
        buffer = momentum * buffer + gradient
        param = param - rate * (gradient + momentum * buffer)
    return param


def torch_adam(param, gradients, *, rate, b1=0.9, b2=0.999, eps=1e-8):
    """`torch.optim.Adam` on one tensor, whose gradient is None until it is first reached."""
    m, v, t = np.zeros_like(param), np.zeros_like(param), 0
    for gradient in gradients:
        if t == 0 and not gradient.any():
            continue
        t += 1
        m = b1 * m + (1 - b1) * gradient
        v = b2 * v + (1 - b2) * gradient**2
        denominator = np.sqrt(v) / np.sqrt(1 - b2**t) + eps
        param = param - rate / (1 - b1**t) * m / denominator
    return param


def by_leaf(trees):
    """`[tree, ...]` -> `{"module/leaf": [array, ...]}`."""
    return {
        f"{module}/{leaf}": [tree[module][leaf] for tree in trees]
        for module in SHAPES
        for leaf in SHAPES[module]
    }


@pytest.mark.parametrize("schedule", ["constant", "cosine_7_16"])
def test_sgd_is_pytorchs_and_decays_kernels_only(schedule):
    params, gradients = random_tree(), random_gradients()
    optimizer = optim.make(
        name="sgd", learning_rate=0.3, schedule=schedule, weight_decay=0.1, total_steps=NUM_STEPS
    )
    found = optimize(optimizer, params, gradients)
    t = np.arange(NUM_STEPS)
    rates = 0.3 * (np.cos(7 * np.pi * t / 16 / NUM_STEPS) if schedule != "constant" else t**0)
    for name, leaves in by_leaf([params, found, *gradients]).items():
        decay = 0.1 if name.endswith("kernel") else 0.0
        expected = torch_sgd(leaves[0], leaves[2:], rates=rates, weight_decay=decay)
        np.testing.assert_allclose(leaves[1], expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_adam_counts_steps_from_each_tensors_first_gradient():
    params, gradients = random_tree(), random_gradients()
    optimizer = optim.make(name="adam", learning_rate=0.3, total_steps=NUM_STEPS)
    found = optimize(optimizer, params, gradients)
    for name, leaves in by_leaf([params, found, *gradients]).items():
        expected = torch_adam(leaves[0], leaves[2:], rate=0.3)
        np.testing.assert_allclose(leaves[1], expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_adam_leaves_a_tensor_without_gradient_alone():
    params = random_tree()
    optimizer = optim.make(name="adam", total_steps=3)
    found = optimize(optimizer, params, random_gradients()[:3])
    np.testing.assert_array_equal(found["late"]["kernel"], np.float32(params["late"]["kernel"]))


def test_cosine_covers_seven_sixteenths_of_a_period():
    rate = optim.cosine_7_16(2.0, 1000)
    steps = jnp.array([0, 500, 1000])
    np.testing.assert_allclose(rate(steps), [2.0, 2 * 0.77301, 2 * 0.19509], atol=1e-5)


def test_cosine_is_never_negative():
    rates = np.asarray(optim.cosine_7_16(1.0, 7)(jnp.arange(100)))
    assert rates.min() == 0
    np.testing.assert_array_equal(rates[8:24], 0)


def test_ldams_schedule_rises_for_five_of_200_epochs_and_falls_at_160_and_180():
    optimizer = optim.make(name="sgd", learning_rate=2.0, schedule="ldam", total_steps=2000)
    by_step = {0: 0.02, 24: 0.5, 49: 1, 1599: 1, 1600: 0.01, 1799: 0.01, 1800: 1e-4, 1999: 1e-4}
    found = optimizer.learning_rate(jnp.array(list(by_step)))
    np.testing.assert_allclose(found, 2.0 * np.array(list(by_step.values())), rtol=1e-5)


def test_shrink_over_an_epoch_of_the_adam_line():
    optimizer = optim.make(**optim.RECIPES["O1"], total_steps=500)
    params = {"kernel": jnp.ones(())}
    keep = jax.jit(optimizer.shrunk)
    for n in range(500):
        params, _ = keep(params, {}, n)
    np.testing.assert_allclose(params["kernel"], 0.98020, atol=2e-5)


@pytest.mark.parametrize("shrink_statistics, expected", [(True, 3.0), (False, 4.0)])
def test_shrink_follows_the_learning_rate_and_spares_statistics_unless_asked(
    shrink_statistics, expected
):
    optimizer = optim.make(
        learning_rate=0.5, shrink=0.5, shrink_statistics=shrink_statistics, total_steps=2
    )
    params, stats = optimizer.shrunk({"bias": jnp.float32(8)}, {"mean": jnp.float32(4)}, 0)
    assert (params["bias"], stats["mean"]) == (6, expected)


def test_shrink_follows_the_schedule():
    optimizer = optim.make(
        name="sgd", learning_rate=1.0, schedule="cosine_7_16", shrink=0.5, total_steps=10
    )
    found = [optimizer.shrunk({"w": jnp.float32(1)}, {}, n)[0]["w"] for n in (0, 5, 10)]
    np.testing.assert_allclose(found, 1 - 0.5 * np.array([1, 0.77301, 0.19509]), atol=1e-5)


@pytest.mark.parametrize("recipe", ["O1", "O2", "O3", "O4"])
def test_every_recipe_trains(recipe):
    optimizer = optim.make(**optim.RECIPES[recipe], total_steps=10)
    params = random_tree()
    found = optimize(optimizer, params, [params])  # towards zero
    assert optax.tree.norm(found) < optax.tree.norm(params)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(name="adamw"), "optim.name 'adamw' is unknown; did you mean 'adam'"),
        (dict(schedule="cosine"), "did you mean 'cosine_7_16'"),
        (dict(learning_rate=0.0), "optim.learning_rate is 0.0; it must be positive"),
        (dict(learning_rate=float("nan")), "optim.learning_rate is nan"),
        (dict(weight_decay=1e-4), "set optim.shrink instead"),
    ],
)
def test_bad_values_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        optim.make(**changes, total_steps=10)
