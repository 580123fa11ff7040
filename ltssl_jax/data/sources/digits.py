"""The handwritten digits that come with scikit-learn: 1,797 grey images of 8x8, no download."""

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Source, in_memory, refuse_resize

_TEST_PER_CLASS = 50


def load(*, name: str, root: str, image_size: int, download: bool) -> Source:
    """Holds out 50 test images of each class, always the same; `download` has nothing to do.

    Raises:
      InputError: `root` is given, or another size than 8x8 is asked for.
    """
    if root:
        raise InputError(
            f"data.root is {root!r} but the bundled digits are read from nowhere; "
            "set data.source=folder to read your own images"
        )
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    refuse_resize(image_size, images.shape[1:], "digits")
    shuffled = np.random.default_rng(20251101).permutation(len(images))
    test = np.concatenate(
        [shuffled[bunch.target[shuffled] == k][:_TEST_PER_CLASS] for k in range(10)]
    )
    is_test = np.isin(np.arange(len(images)), test)
    return Source(
        name=name or "digits",
        train=in_memory(images[~is_test], bunch.target[~is_test]),
        test=in_memory(images[is_test], bunch.target[is_test]),
        class_names=tuple(str(k) for k in range(10)),
    )
