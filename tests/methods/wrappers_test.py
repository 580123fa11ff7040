"""Wrappers go around bases that their papers never met: the step can be traced, nothing is lost."""

import functools

import jax
import jax.numpy as jnp
import pytest

from ltssl_jax import core, methods
from tests.methods.contract_test import Trained, batch

# Those beside the contract's examples; bases of each kind that fits.
AROUND = {
    "abc": ("mixmatch", "mean_teacher", "simpro", "daso"),
    "adsh": ("debiaspl", "softmatch"),
    "cdmad": ("flexmatch", "mixmatch", "remixmatch"),
    "cossl": ("freematch", "remixmatch"),
    "crest": ("freematch", "mixmatch"),
    "darp": ("mixmatch", "softmatch"),
    "daso": ("remixmatch", "freematch"),
    "saw": ("freematch", "uda"),
}
PAIRS = [(wrapper, base) for wrapper, bases in AROUND.items() for base in bases]


def traced(method):
    """Shapes and types of the state before and after a step, and the metrics."""
    trained = Trained(method)
    start = jax.eval_shape(trained.start)
    return start, *jax.eval_shape(trained.step, start, batch(method, 0), core.Resident())


@pytest.mark.parametrize("wrapper, base", PAIRS)
def test_a_step_around_another_base_can_be_traced(wrapper, base):
    start, after, metrics = traced(methods.make(wrapper, base=dict(name=base)))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, start)
    losses = {name for name in metrics if name.startswith("loss")}
    assert {name for name in of_alone(base) if name.startswith("loss")} <= losses
    assert all(x.shape == () for name, x in metrics.items() if not name.startswith("pseudo/"))


@functools.cache
def of_alone(name):
    """The metrics of a base by itself."""
    return traced(methods.make(name))[2]
