"""Adam whose bias correction starts, for each tensor, at its first gradient that is not zero."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltssl_jax.core import PyTree


class AwakeningAdamState(NamedTuple):
    """Updates since the first gradient (int32 per tensor), first and second moments."""

    count: PyTree
    mu: optax.Updates
    nu: optax.Updates


def scale_by_awakening_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Rescales gradients as PyTorch's Adam does when a tensor joins late.

    PyTorch counts steps per tensor, from the first backward pass that reaches it; optax counts one
    number for all. A head that joins after a warm-up (TRAS, ACR, CCL) would there be corrected for
    thousands of steps that it never made, and start with updates three times too large.

    Source: Kingma & Ba, arXiv:1412.6980; the defaults and `eps` outside the root are PyTorch's.
    """

    def init(params):
        count = jax.tree.map(lambda _: jnp.zeros((), jnp.int32), params)
        return AwakeningAdamState(
            count, optax.tree.zeros_like(params), optax.tree.zeros_like(params)
        )

    def update(grads, state, params=None):
        del params

        def counted(count, g):
            # A sum of squares and not `any(g != 0)`: the gradient norm in the log needs the same
            # sum, so it is computed once.
            is_awake = (count > 0) | (jnp.sum(jnp.square(g)) > 0)
            return count + is_awake.astype(jnp.int32)

        def rescaled(count, m, v):
            t = jnp.maximum(count, 1).astype(m.dtype)
            return (m / (1 - b1**t)) / (jnp.sqrt(v / (1 - b2**t)) + eps)

        count = jax.tree.map(counted, state.count, grads)
        mu = optax.tree.update_moment(grads, state.mu, b1, 1)
        nu = optax.tree.update_moment(grads, state.nu, b2, 2)
        return jax.tree.map(rescaled, count, mu, nu), AwakeningAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
