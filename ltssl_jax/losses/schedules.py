"""How weights and thresholds change over training: pure functions of how far it is."""

import jax.numpy as jnp

from ltssl_jax.core import Array, InputError

SIGNALS = ("linear", "exp", "log")


def linear_ramp(now: Array, length: float) -> Array:
    """Rises from 0 at 0 to 1 at `length`, in a straight line, and stays there.

    Args:
      now: scalar, steps or epochs finished.
      length: in the same unit; 0 is 1 from the beginning.

    Returns:
      float32 scalar in [0, 1].
    """
    return _progress(now, length)


def sigmoid_ramp(now: Array, length: float) -> Array:
    """Rises as `exp(-5 (1 - t)^2)` from 0.0067 at 0 to 1 at `length`, and stays there.

    Args:
      now: scalar, steps or epochs finished.
      length: in the same unit; 0 is 1 from the beginning.

    Returns:
      float32 scalar in (0, 1].

    Source: Laine and Aila, arXiv:1610.02242; Tarvainen and Valpola, arXiv:1703.01780.
    """
    return jnp.exp(-5.0 * (1.0 - _progress(now, length)) ** 2)


def released_confidence(now: Array, length: float, *, signal: str, num_classes: int) -> Array:
    """Computes up to which probability of their class labeled examples still train.

    Training signal annealing: from chance, or nearly so, to certainty.

    Args:
      now: scalar, steps finished.
      length: of the training.
      signal: `"linear"`; `"exp"` releases most of the signal at the end, `"log"` early.
      num_classes: `K`.

    Returns:
      float32 scalar between `1 / K` and 1.

    Raises:
      InputError: an unknown signal.

    Source: Xie et al., "Unsupervised data augmentation", arXiv:1904.12848.
    """
    if signal not in SIGNALS:
        raise InputError.unknown("training signal", signal, SIGNALS)
    t = _progress(now, length)
    share = {"linear": t, "exp": jnp.exp(5.0 * (t - 1.0)), "log": 1.0 - jnp.exp(-5.0 * t)}
    return share[signal] * (1.0 - 1.0 / num_classes) + 1.0 / num_classes


def _progress(now, length):
    if length == 0:
        return jnp.ones((), jnp.float32)
    return jnp.clip(jnp.asarray(now, jnp.float32) / length, 0.0, 1.0)
