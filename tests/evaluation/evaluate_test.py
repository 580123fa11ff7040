import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax.evaluation.evaluate import confusion_matrix


def test_however_many_batches_few_matrices_are_held():
    shape, held = (61, 61), []

    def eval_step(state, batch):
        held.append(sum(array.shape == shape for array in jax.live_arrays()))
        return jnp.full(shape, batch, jnp.int32), None

    found = confusion_matrix(eval_step, None, range(20))
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.full(shape, 190))
    assert max(held) <= 2
