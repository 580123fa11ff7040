"""Creating the state that a run starts from."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltssl_jax.core import Ema, InputError, Method, Problem, PyTree, TrainState
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


def with_weights(
    fresh: TrainState, trained: TrainState, part: str, *, is_averaged: bool = False
) -> TrainState:
    """Returns step 0 with weights, averages and batch statistics of another training.

    Args:
      fresh: of the method that is to be trained.
      trained: whose weights are taken, where both have an array of that name.
      part: "backbone" alone, or the "network" with the heads that both have.
      is_averaged: begin online, too, with what the other training's averages are: with the network
        that was evaluated.

    Raises:
      InputError: an array of the same name has another shape.
    """

    def taken(own: PyTree, other: PyTree) -> PyTree:
        names = {"backbone"} if part == "backbone" else own.keys()
        names &= own.keys() & other.keys()
        return own | {name: _taken(own[name], other[name], name) for name in names}

    ema = Ema(
        taken(fresh.ema.params, trained.ema.params),
        taken(fresh.ema.batch_stats, trained.ema.batch_stats),
    )
    online = trained.ema if is_averaged else trained
    return fresh.replace(
        params=taken(fresh.params, online.params),
        batch_stats=taken(fresh.batch_stats, online.batch_stats),
        ema=ema,
    )


def _taken(own: PyTree, other: PyTree, name: str) -> PyTree:
    """Takes every array that both have; the names of modules lead there."""
    if isinstance(own, dict):
        both = own.keys() & other.keys()
        return own | {key: _taken(own[key], other[key], f"{name}.{key}") for key in both}
    if jnp.shape(own) != jnp.shape(other):
        raise InputError(
            f"{name} has the shape {jnp.shape(other)} in the earlier stage and {jnp.shape(own)} in"
            " this one; give both stages one config.model"
        )
    return jnp.copy(other)
