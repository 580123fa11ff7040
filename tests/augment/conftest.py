"""Images on which the operations are compared with Pillow's."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def images():
    """Ten 32 x 32 RGB images: photographs, noise, gradients, few levels, one level."""
    datasets = pytest.importorskip("sklearn.datasets")
    china, flower = datasets.load_sample_images().images
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:32, :32]
    ramp = np.stack([8 * row, 4 * (row + column), 255 - 8 * column], axis=-1)
    two_levels = np.where(rng.random((32, 32, 3)) < 0.9, 77, 78)
    made = [
        *(china[top : top + 32, 300:332] for top in (60, 180, 300)),
        *(flower[top : top + 256 : 8, 100:356:8] for top in (10, 150)),
        rng.integers(0, 256, (32, 32, 3)),
        rng.integers(90, 130, (32, 32, 3)),
        ramp,
        two_levels,
        np.full((32, 32, 3), 200),
    ]
    return np.stack(made).astype(np.uint8)


@pytest.fixture(scope="session")
def grey_images(images):
    """The same, grey and 16 x 16."""
    return images[:, 8:24, 8:24, 1:2]
