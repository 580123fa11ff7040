"""The handwritten digits that come with scikit-learn: 1,797 grey images of 8x8, no download."""

import numpy as np

from ltssl_jax.data.sources import pixels
from ltssl_jax.data.sources.base import Settings, Source

USES = ()

_TEST_PER_CLASS = 50


def load(settings: Settings) -> Source:
    """Holds out 50 test images of each class, always the same."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    shuffled = np.random.default_rng(20251101).permutation(len(images))
    test = np.concatenate(
        [shuffled[bunch.target[shuffled] == k][:_TEST_PER_CLASS] for k in range(10)]
    )
    is_test = np.isin(np.arange(len(images)), test)
    policy = pixels.policy_of(settings, channels=1)
    parts = {
        part: pixels.records(images[is_part], bunch.target[is_part], policy)
        for part, is_part in (("train", ~is_test), ("test", is_test))
    }
    return pixels.source(settings.name or "digits", parts, tuple(str(k) for k in range(10)))
