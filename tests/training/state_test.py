"""The state that a run starts from."""

import jax
import numpy as np

from ltssl_jax import core
from ltssl_jax.training import optim, state
from tests import toy


def test_the_average_starts_as_a_copy():
    start = toy.initial_state()
    assert int(start.step) == 0
    for online, average in (
        (start.params, start.ema.params),
        (start.batch_stats, start.ema.batch_stats),
    ):
        jax.tree.map(np.testing.assert_array_equal, online, average)
        pairs = zip(jax.tree.leaves(online), jax.tree.leaves(average), strict=True)
        assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in pairs)


def test_the_seed_decides_the_weights():
    def kernel(seed):
        start = state.create(
            toy.network(toy.Flat()),
            toy.Method(),
            optim.make(total_steps=10),
            toy.PROBLEM,
            image_shape=toy.SHAPE,
            seed=seed,
        )
        return np.asarray(start.params["backbone"]["dense"]["kernel"])

    np.testing.assert_array_equal(kernel(1), kernel(1))
    assert not np.array_equal(kernel(1), kernel(2))


def test_a_step_keeps_structure_shapes_and_dtypes():
    start = toy.initial_state()
    following, _ = jax.eval_shape(toy.train_step(), start, toy.batch(), core.Resident())
    assert jax.tree.structure(start) == jax.tree.structure(following)
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(following), strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
        assert before.dtype in (np.float32, np.int32)
