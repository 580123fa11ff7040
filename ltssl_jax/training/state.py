"""Creating the state that a run starts from."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltssl_jax.core import Ema, Method, Problem, TrainState
from ltssl_jax.training.optim import Optimizer


def create(
    model: nn.Module,
    method: Method,
    optimizer: Optimizer,
    problem: Problem,
    *,
    image_shape: tuple[int, int, int],
    seed: int,
) -> TrainState:
    """Returns step 0; the EMA starts as a copy of the online network.

    Args:
      model: the network.
      method: what is trained; initializes its own state.
      optimizer: from `optim.make`.
      problem: facts of the run.
      image_shape: `(H, W, C)`.
      seed: of the weights.
    """

    @jax.jit
    def initialize():
        # rbg keys: initialization compiles several times faster than with threefry.
        key = jax.random.key(seed, impl="rbg")
        return model.init(key, jnp.zeros((1, *image_shape), jnp.float32), False)

    variables = initialize()
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.tx.init(params),
        # Copies: a donated buffer must not appear twice in the state.
        ema=jax.tree.map(jnp.copy, Ema(params, batch_stats)),
        method_state=method.init(problem),
    )
