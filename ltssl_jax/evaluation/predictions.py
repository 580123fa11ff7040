"""What a trained network says of sets of images, kept in a file beside the truth; NumPy only.

`predictions.npz` of a run is of the network at the end, `predictions_best.npz` of the best
checkpoint, where that is another one. Both have `test`, `validation` where there is one, and
`pool`: a sample of the unlabeled images, at even distances. It is all that calibration, paired
comparisons and sheets of mistakes need: neither the images nor the network.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ltssl_jax.core import InputError

FILE, BEST_FILE = "predictions.npz", "predictions_best.npz"
_HALF_BEYOND = 2**26  # bytes of logits of a set from which they are kept in half precision


@dataclass(frozen=True)
class Predictions:
    """The logits of `N` images, in evaluation order.

    Attributes:
      logits: `[N, K]` float32.
      labels: `[N]` int32, true classes; -1 where nobody knows.
      names: `[N]` str, what reports call the images.
      shown: `[M]` int, rows of the images that are kept: the most confident mistakes.
      images: `[M, H, W, C]` uint8, these images.
      classes: `[N]` int, predicted classes; by default those of the largest logits.
    """

    logits: np.ndarray
    labels: np.ndarray
    names: np.ndarray
    shown: np.ndarray
    images: np.ndarray
    classes: np.ndarray | None = None

    def __post_init__(self):
        if self.classes is None:
            object.__setattr__(self, "classes", np.argmax(self.logits, axis=1))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def probabilities(self) -> np.ndarray:
        """`[N, K]` float32, the softmax of the logits."""
        return softmax(self.logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities `[N, K]` of logits `[N, K]`."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confident_mistakes(logits: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Finds the images of known class that are called another one with the highest probability.

    Args:
      logits: `[N, K]`.
      labels: `[N]` int, -1 where unknown.
      most: how many at most.

    Returns:
      `[M]` int positions, the most confident first.
    """
    wrong = np.flatnonzero((labels >= 0) & (np.argmax(logits, axis=1) != labels))
    confidence = softmax(logits[wrong]).max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")][:most]


def evenly(number: int, most: int) -> np.ndarray:
    """Returns at most `most` of the positions `0 ... number - 1`, at even distances."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(np.int64))


def arrays(sets: Mapping[str, Predictions]) -> dict[str, np.ndarray]:
    """Names the arrays of all sets for a file: `test/logits` and so on.

    Many logits are kept in half precision, in which the two largest may be equal: hence `classes`.
    """
    made = {
        f"{name}/{key}": value for name, one in sets.items() for key, value in vars(one).items()
    }
    for key in [key for key in made if key.endswith("/logits")]:
        if made[key].nbytes > _HALF_BEYOND:
            made[key] = made[key].astype(np.float16)
    return made


def read(run: str | os.PathLike, name: str = FILE) -> dict[str, Predictions]:
    """Reads the kept predictions of a run directory; empty where it has no such file (yet).

    Raises:
      InputError: the file is damaged.
    """
    path = os.path.join(run, name)
    if not os.path.exists(path):
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
        sets = dict.fromkeys(key.partition("/")[0] for key in found)
        return {name: _of(name, found) for name in sets}
    except Exception as error:  # NumPy and zipfile raise half a dozen types
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}); remove the result.json beside it,"
            " and the training command writes both again"
        ) from error


def _of(name: str, found: Mapping[str, np.ndarray]) -> Predictions:
    keys = [key for key in Predictions.__dataclass_fields__ if key != "classes"]
    fields = {key: found[f"{name}/{key}"] for key in keys}
    fields["classes"] = found.get(f"{name}/classes")  # older files have none
    return Predictions(**fields | {"logits": fields["logits"].astype(np.float32)})
