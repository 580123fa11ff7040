"""The averages: what they follow, how fast, and in which order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.core import Ema, InputError
from ltssl_jax.training import optim
from ltssl_jax.training.ema import Averaging
from tests import toy

OLD = Ema({"w": jnp.array([1.0, 2.0])}, {"mean": jnp.array([10.0])})
NEW = ({"w": jnp.array([3.0, -2.0])}, {"mean": jnp.array([20.0])})


def updated(step=0, **settings):
    return Averaging(**settings).update(OLD, *NEW, jnp.int32(step))


def test_weights_and_statistics_are_averaged():
    ema = updated(decay=0.75)
    np.testing.assert_allclose(ema.params["w"], [1.5, 1.0])
    np.testing.assert_allclose(ema.batch_stats["mean"], [12.5])


def test_statistics_may_be_copied():
    ema = updated(decay=0.75, statistics="copy")
    np.testing.assert_allclose(ema.params["w"], [1.5, 1.0])
    np.testing.assert_array_equal(ema.batch_stats["mean"], [20.0])


@pytest.mark.parametrize(
    "step, decay", [(0, 0.0), (1, 1 / 2), (2, 2 / 3), (9, 0.9), (10, 0.9), (1000, 0.9)]
)
def test_warmup_limits_the_decay(step, decay):
    ema = updated(step, decay=0.9, warmup=True)
    np.testing.assert_allclose(ema.params["w"][0], decay * 1.0 + (1 - decay) * 3.0, rtol=1e-6)


@pytest.mark.parametrize("shrink_statistics", [True, False])
def test_the_average_is_taken_before_the_shrink(shrink_statistics):
    optimizer = optim.make(
        learning_rate=0.5, shrink=0.5, shrink_statistics=shrink_statistics, total_steps=10
    )
    (_, state), _ = toy.train(1, optimizer=optimizer, averaging=Averaging(0.0))

    def assert_scaled(online, average, by):
        jax.tree.map(lambda o, a: np.testing.assert_allclose(o, by * a, rtol=1e-6), online, average)

    assert_scaled(state.params, state.ema.params, 0.75)
    assert_scaled(state.batch_stats, state.ema.batch_stats, 0.75 if shrink_statistics else 1.0)


def test_copied_statistics_are_no_alias():
    # Donating a state in which one buffer appears twice fails, or worse.
    states, _ = toy.train(3, averaging=Averaging(0.5, statistics="copy"), donate_state=True)
    online, average = states[-1].batch_stats, states[-1].ema.batch_stats
    jax.tree.map(np.testing.assert_array_equal, online, average)
    for a, b in zip(jax.tree.leaves(online), jax.tree.leaves(average), strict=True):
        assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(decay=1.0), "ema.decay is 1.0; it must be at least 0 and below 1"),
        (dict(decay=-0.1), "ema.decay is -0.1"),
        (dict(statistics="average_"), "did you mean 'average'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Averaging(**settings)
