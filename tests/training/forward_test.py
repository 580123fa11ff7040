"""Which views run through the network, in which groups and order; and what a method may use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, parallel
from ltssl_jax.training.forward import AxisDevices, ExampleKeys, NetworkForward, evaluate
from tests import toy

MODEL = toy.network(toy.Flat())
STATE = toy.initial_state()
RNG = np.random.default_rng(1)
A, B, C = [
    jnp.float32(shift + RNG.standard_normal((n, *toy.SHAPE)))
    for n, shift in ((6, 0.0), (4, 1.0), (4, -3.0))
]
EMA = core.Ema(
    jax.tree.map(lambda x: 2 * x, STATE.params), {"backbone": {"bn": {"mean": jnp.ones(4)}}}
)
EMA.batch_stats["backbone"]["bn"]["var"] = jnp.full(4, 4.0)


def trace(use, *views, params=STATE.params, ema=EMA, stack_views=False):
    """Runs `use(forward, *views)` in one trace; returns its answer and the batch statistics."""

    @jax.jit
    def traced(params, ema, *views):
        forward = NetworkForward(MODEL, params, STATE.batch_stats, ema, stack_views=stack_views)
        return use(forward, *views), forward.batch_stats

    return traced(params, ema, *views)


def running_mean(*passes):
    """Running mean after the given passes, each an array of images, in float64."""
    kernel = np.asarray(STATE.params["backbone"]["dense"]["kernel"], np.float64)
    mean = np.zeros(4)
    for images in passes:
        batch_mean = (np.float64(images).reshape(len(images), -1) @ kernel).mean(0)
        mean = 0.9 * mean + 0.1 * batch_mean
    return mean


def assert_passes(stats, *passes):
    found = stats["backbone"]["bn"]["mean"]
    np.testing.assert_allclose(found, running_mean(*passes), rtol=1e-4, atol=1e-5)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one, other):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), one, other)


def test_asking_again_is_free():
    def use(forward, a, b):
        first, other = forward(a), forward(b)
        assert forward(a) is first
        assert forward.jointly(b, a) == (other, first)
        return first

    assert_passes(trace(use, A, B)[1], A, B)


def test_a_view_twice_in_one_call_is_forwarded_once():
    twice = trace(lambda forward, a: forward.jointly(a, a), A)
    once = trace(lambda forward, a: (forward(a), forward(a)), A)
    assert_close(twice, once)


def test_order_of_the_calls_is_order_of_the_updates():
    assert_passes(trace(lambda f, a, b: (f(a), f(b)), A, B)[1], A, B)
    assert_passes(trace(lambda f, a, b: (f(b), f(a)), A, B)[1], B, A)


@pytest.mark.parametrize("stack_views", [False, True])
def test_apart_is_one_by_one_in_order(stack_views):
    def use(forward, *views):
        first = forward(views[0])
        outputs = forward.apart(*views)
        assert outputs[0] is first
        return outputs

    views = (A, B, C, 2 * C)
    outputs, stats = trace(use, *views, stack_views=stack_views)
    expected, expected_stats = trace(lambda f, *views: tuple(f(view) for view in views), *views)
    assert_close((outputs, stats), (expected, expected_stats))
    assert_passes(stats, *views)


@pytest.mark.parametrize("stack_views, num_convolutions", [(False, 3), (True, 2)])
def test_stacked_views_of_one_shape_share_operations(stack_views, num_convolutions):
    def forwarded(*views):
        return trace(lambda f, *views: f.apart(*views), *views, stack_views=stack_views)

    text = str(jax.make_jaxpr(forwarded)(A, B, C))
    heads = 1
    assert text.count("dot_general") == (1 + heads) * num_convolutions


def test_stacked_views_have_the_gradients_of_separate_ones():
    def total(params, stack_views):
        use = lambda f, *v: sum(jnp.sum(jnp.sin(o.logits["base"])) for o in f.apart(*v))  # noqa: E731
        return trace(use, B, C, params=params, stack_views=stack_views)[0]

    gradients = [jax.grad(total)(STATE.params, stack_views) for stack_views in (False, True)]
    assert_close(*gradients)


def test_jointly_shares_statistics():
    together = jnp.concatenate([A, B, C])
    outputs, stats = trace(lambda f, *views: f.jointly(*views), A, B, C)
    one, _ = trace(lambda f, x: f(x), together)
    assert_close(jax.tree.map(lambda *x: jnp.concatenate(x), *outputs), one)
    assert [len(o.features) for o in outputs] == [6, 4, 4]
    assert_passes(stats, together)


def test_jointly_forwards_only_what_is_new():
    _, stats = trace(lambda f, a, b, c: (f(b), f.jointly(a, b, c)), A, B, C)
    assert_passes(stats, B, jnp.concatenate([A, C]))


def test_training_mode_normalizes_by_the_batch():
    outputs, _ = trace(lambda f, a: f(a), A)
    np.testing.assert_allclose(outputs.features.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.features.std(0), 1, atol=1e-3)


def test_head_is_that_of_the_network():
    def use(forward, a):
        outputs = forward(a)
        return outputs.logits["base"], forward.head("base", outputs.features)

    assert_close(*trace(use, A)[0])


def test_kernel_is_the_weights_of_a_linear_head():
    kernel, _ = trace(lambda f, a: f.kernel("base"), A)
    assert_equal(kernel, STATE.params["classifier_base"]["dense"]["kernel"])


def test_teacher_may_normalize_by_the_batch():
    outputs, stats = trace(lambda f, a: f.teacher(a, by_batch=True), A)
    dense = np.float64(A).reshape(6, -1) @ np.float64(EMA.params["backbone"]["dense"]["kernel"])
    scale = np.asarray(EMA.params["backbone"]["bn"]["scale"])[None, :]
    expected = (dense - dense.mean(0)) / np.sqrt(dense.var(0) + 1e-5)[None, :] * scale
    np.testing.assert_allclose(outputs.features, expected, rtol=1e-3, atol=1e-4)
    assert_equal(stats, STATE.batch_stats)


def test_teacher_uses_averages_and_running_statistics():
    outputs, stats = trace(lambda f, a: f.teacher(a), A)
    dense = np.asarray(A).reshape(6, -1) @ EMA.params["backbone"]["dense"]["kernel"]
    scale = EMA.params["backbone"]["bn"]["scale"]
    expected = (dense - 1) / np.sqrt(4 + 1e-5) * np.asarray(scale)[None, :]
    np.testing.assert_allclose(outputs.features, expected, rtol=1e-4, atol=1e-5)
    assert_equal(stats, STATE.batch_stats)
    evaluated = jax.jit(lambda ema, a: evaluate(MODEL, ema, a))(EMA, A)
    assert_close(outputs, evaluated)


def test_no_gradient_through_the_teacher():
    def total(params, images):
        use = lambda f, a: jnp.sum(f.teacher(a).logits["base"])  # noqa: E731
        return trace(use, images, params=params, ema=EMA.replace(params=params))[0]

    gradients = jax.grad(total, argnums=(0, 1))(STATE.params, A)
    jax.tree.map(lambda g: np.testing.assert_array_equal(g, 0), gradients)


# --- devices --------------------------------------------------------------------------------------

LANES = jnp.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    "collective, expected",
    [("mean", [2.0, 3.0]), ("sum", [6.0, 9.0]), ("gather", [0, 1, 2, 3, 4, 5])],
)
def test_collectives_go_over_the_axis(collective, expected):
    lane = getattr(AxisDevices("data"), collective)
    found = jax.vmap(lane, axis_name="data")({"x": LANES})["x"]
    for device in found:
        np.testing.assert_array_equal(device, expected)


@pytest.mark.parametrize("collective", ["mean", "sum", "gather"])
def test_without_an_axis_the_device_sees_everything(collective):
    np.testing.assert_array_equal(getattr(AxisDevices(None), collective)(LANES), LANES)


@pytest.mark.parametrize("axis", ["data", None])
@pytest.mark.parametrize("collective", ["mean", "sum", "gather"])
def test_no_gradient_through_collectives(axis, collective):
    def total(x):
        lane = getattr(AxisDevices(axis), collective)
        return jnp.sum(jax.vmap(lane, axis_name="data")(x))

    np.testing.assert_array_equal(jax.grad(total)(LANES), 0)


@pytest.mark.parametrize("mode", parallel.MODES)
def test_through_a_differentiable_gather_the_gradient_is_that_of_the_whole_batch(mode):
    """Each device contrasts its rows with all rows; gradients are averaged afterwards."""
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)))
    runner = parallel.make(mode, num_devices=1 if mode == "jit" else 4)
    devices = AxisDevices(runner.axis)

    def step(weights, rows):
        def objective(weights):
            own = jnp.tanh(rows @ weights)
            everyone = devices.gather(own, differentiable=True)
            # Asymmetric on purpose: as key and as anchor a row gets different gradients.
            return jnp.mean(jax.nn.logsumexp(own @ everyone.T, axis=1) - own[:, 0] ** 2)

        return devices.mean(jax.grad(objective)(weights))

    def whole(weights):
        own = jnp.tanh(rows @ weights)
        return jnp.mean(jax.nn.logsumexp(own @ own.T, axis=1) - own[:, 0] ** 2)

    weights = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
    found = runner.map(step)(runner.replicate(weights), runner.shard(rows))
    np.testing.assert_allclose(found, jax.grad(whole)(weights), rtol=1e-5, atol=1e-6)


# --- randomness -----------------------------------------------------------------------------------

RNG_OF_STEP = ExampleKeys(jax.random.key(3))


def drawn(stream, index, rng=RNG_OF_STEP):
    return jax.random.key_data(rng.per_example(stream, jnp.array(index)))


def test_an_example_has_its_key_wherever_it_lies():
    whole = drawn("mask", [4, 0, 7, 2])
    np.testing.assert_array_equal(drawn("mask", [2, 7]), whole[jnp.array([3, 2])])
    np.testing.assert_array_equal(drawn("mask", [4]), whole[:1])


def test_examples_streams_and_steps_have_different_keys():
    other_step = ExampleKeys(jax.random.key(4))
    keys = [drawn("mask", [0, 1]), drawn("mix", [0, 1]), drawn("mask", [0, 1], other_step)]
    assert len({tuple(key) for key in np.concatenate(keys).tolist()}) == 6
