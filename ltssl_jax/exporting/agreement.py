"""Whether an artifact says what the network says that it was made of."""

from collections.abc import Callable

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.exporting.function import Exported
from ltssl_jax.report.runs import Run

MOST = 1e-4  # difference of probabilities that rounding may make
_NUM_RANDOM = 37


def probes(run: Run, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns images to compare on: random ones, and those that a finished run has kept.

    Args:
      run: whose network it is.
      shape: `(H, W, C)`.

    Returns:
      `[M, H, W, C]` uint8.
    """
    sets = run.predictions.values()
    kept = [one.images for one in sets if one.images.shape[1:] == shape]
    return np.concatenate([random(shape), *kept])


def random(shape: tuple[int, int, int]) -> np.ndarray:
    """Makes noise `[37, H, W, C]` uint8 of all contrasts, lest a network be sure of everything."""
    rng = np.random.default_rng(0)
    low, high = np.sort(rng.integers(0, 256, (2, _NUM_RANDOM, 1, 1, 1)), axis=0)
    return rng.integers(low, high + 1, (_NUM_RANDOM, *shape)).astype(np.uint8)


def difference(made: Exported, serve: Callable, images: np.ndarray) -> float:
    """Compares probabilities: of all images at once, and of the first alone.

    Args:
      made: what was exported.
      serve: what `read_back` of the format has returned.
      images: `[M, H, W, C]` uint8.

    Returns:
      The largest difference.

    Raises:
      InputError: the network's answers are not numbers, or the artifact's are others.
    """
    expected = made.expected(images)
    if not np.isfinite(expected).all():
        raise InputError(
            f"the network ({made.network.chosen}) answers with numbers that are not finite: its"
            " training has diverged; take another checkpoint with --which"
        )
    both = serve(images)["probabilities"], serve(images[:1])["probabilities"]
    largest = max(np.abs(both[0] - expected).max(), np.abs(both[1] - expected[:1]).max())
    if not largest <= MOST:
        raise InputError(
            f"the exported model's probabilities differ by {largest:.2g} from the network's, more"
            f" than the {MOST:g} of rounding, so it was removed; choose another --format, or from"
            " Python on a GPU or TPU set JAX_PLATFORMS=cpu"
        )
    return float(largest)
