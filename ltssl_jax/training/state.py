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


PARTS = ("backbone", "network")


def with_weights(fresh: TrainState, trained: TrainState, part: str) -> TrainState:
    """Returns step 0 with weights, averages and batch statistics of another training.

    Args:
      fresh: of the method that is to be trained.
      trained: whose weights are taken, where both have a module of that name.
      part: "backbone" alone, or the "network" with the heads that both have.

    Raises:
      InputError: an array of the same name has another shape.
    """

    def taken(own: PyTree, other: PyTree) -> PyTree:
        names = own.keys() & other.keys()
        names &= {"backbone"} if part == "backbone" else names
        for name in names:
            if jax.tree.map(jnp.shape, own[name]) != jax.tree.map(jnp.shape, other[name]):
                raise InputError(
                    f"the earlier stage trained another {name!r}: its arrays have other shapes;"
                    " give both stages one config.model"
                )
        return own | {name: jax.tree.map(jnp.copy, other[name]) for name in names}

    return fresh.replace(
        params=taken(fresh.params, trained.params),
        batch_stats=taken(fresh.batch_stats, trained.batch_stats),
        ema=Ema(
            taken(fresh.ema.params, trained.ema.params),
            taken(fresh.ema.batch_stats, trained.ema.batch_stats),
        ),
    )
