"""What is equal on all devices, and what each has of its own: keys, shares, one image for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import parallel
from ltssl_jax.training.forward import AxisDevices, ExampleKeys, NetworkForward
from tests import toy

ROWS = jnp.arange(24.0).reshape(8, 3)
SAME = jnp.asarray(np.random.default_rng(0).normal(size=(3, *toy.SHAPE)), jnp.float32)


@pytest.mark.parametrize("mode", parallel.MODES)
def test_share_is_the_inverse_of_gather(mode):
    runner = parallel.make(mode, num_devices=1 if mode == "jit" else 4)
    devices = AxisDevices(runner.axis)

    def step(state, rows):
        everyone = devices.gather(rows)
        return devices.gather(devices.share(everyone[::-1]) - rows)

    found = runner.map(step)(runner.replicate(jnp.zeros(())), runner.shard(np.asarray(ROWS)))
    np.testing.assert_array_equal(found, ROWS[::-1] - ROWS)


def test_share_has_no_gradient():
    lane = jax.vmap(lambda x: jnp.sum(AxisDevices("data").share(x)), axis_name="data")
    gradient = jax.grad(lambda x: jnp.sum(lane(x)))(jnp.stack([ROWS] * 4))
    np.testing.assert_array_equal(gradient, 0)


def test_the_shared_key_depends_on_step_and_stream_alone():
    def bits(step, stream):
        return jax.random.key_data(ExampleKeys(jax.random.key(step)).shared(stream))

    np.testing.assert_array_equal(bits(0, "mix"), bits(0, "mix"))
    assert not np.array_equal(bits(0, "mix"), bits(1, "mix"))
    assert not np.array_equal(bits(0, "mix"), bits(0, "mask"))


class Replicated(toy.Method):
    """Looks at images that are the same everywhere, too."""

    def loss(self, state, forward, batch, ctx):
        loss = super().loss(state, forward, batch, ctx)
        logits = forward.replicated(SAME).logits["base"]
        return loss._replace(monitors={"first": logits[0, 0]})


def test_images_for_all_devices_have_the_statistics_of_one():
    """Running variances count the values of a batch, so eight copies would not be one batch."""
    one, metrics = toy.train(2, method=Replicated())
    eight, same = toy.train(2, method=Replicated(), mode="pmap", num_devices=8)
    for tree, other in ((one[-1], eight[-1]), (metrics, same)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), tree, other
        )


def test_a_replicated_view_is_forwarded_once():
    state, model = toy.initial_state(), toy.network(toy.Flat())

    def use(params):
        forward = NetworkForward(model, params, state.batch_stats, state.ema)
        first = forward.replicated(SAME)
        after = forward.batch_stats
        assert forward.replicated(SAME) is first and forward.batch_stats is after
        return first.features

    np.testing.assert_allclose(jnp.mean(jax.jit(use)(state.params), axis=0), 0, atol=1e-5)
