"""Warps, crops, flips and boxes against Pillow and plain slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from ltssl_jax.augment import geometry

IDENTITY = ((1, 0, 0), (0, 1, 0))


def pillow_warp(pixels, coefficients):
    image = Image.fromarray(pixels)
    return np.asarray(image.transform(image.size, Image.Transform.AFFINE, coefficients))


@pytest.mark.parametrize("entry", [(0, 1), (1, 0), (0, 2), (1, 2)])
def test_nearest_shears_and_shifts_equal_pillow(images, entry):
    size = 13.4 if entry[1] == 2 else 0.3  # pixels or slope
    values = size * np.linspace(-1, 1, len(images))
    affine = np.tile(np.array(IDENTITY, np.float32), (len(images), 1, 1))
    affine[:, *entry] = values
    ours = jax.jit(geometry.warp_nearest)(images, affine)
    for number, pixels in enumerate(images):
        theirs = pillow_warp(pixels, affine[number].ravel())
        np.testing.assert_array_equal(ours[number], theirs, err_msg=str(values[number]))


def test_nearest_rotations_equal_pillow(images):
    """All angles, in an image that is not square; Pillow computes the map in float64, we do not."""
    angles = np.linspace(-30, 30, 61)
    pixels = images[0, :24]
    affine = geometry.about_centre(geometry.rotation(jnp.asarray(angles)), height=24, width=32)
    ours = jax.jit(geometry.warp_nearest)(np.stack([pixels] * len(angles)), affine)
    theirs = np.stack([np.asarray(Image.fromarray(pixels).rotate(angle)) for angle in angles])
    differs = np.any(np.asarray(ours) != theirs, axis=(1, 2, 3))
    assert differs.mean() < 0.05, angles[differs]
    assert np.mean(np.asarray(ours) != theirs) < 1e-4


def test_bilinear_agrees_with_pillow_inside(images):
    """Pillow extends the border by half a pixel before it turns black; inside both interpolate."""
    rng = np.random.default_rng(0)
    affine = np.array(IDENTITY, np.float32) + rng.uniform(-0.1, 0.1, (len(images), 2, 3))
    affine[:, :, 2] += 2
    ours = np.asarray(jax.jit(geometry.warp_bilinear)(images, affine.astype(np.float32)))
    for number, pixels in enumerate(images):
        image = Image.fromarray(pixels)
        theirs = image.transform(
            image.size, Image.Transform.AFFINE, affine[number].ravel(), Image.Resampling.BILINEAR
        )
        difference = np.abs(ours[number].astype(int) - np.asarray(theirs))[4:-9, 4:-9]
        assert difference.max() <= 1  # the rounding of halves


def test_bilinear_averages_neighbours_rounds_and_darkens_the_border():
    image = np.array([40, 60, 103], np.uint8).reshape(1, 1, 3, 1)
    affine = np.array([[[1, 0, 0.25], [0, 1, 0]]], np.float32)
    # 0.75 * 60 + 0.25 * 103 = 70.75; 0.75 * 103 = 77.25.
    np.testing.assert_array_equal(geometry.warp_bilinear(image, affine).ravel(), [45, 71, 77])


def test_about_centre_keeps_the_centre():
    affine = geometry.about_centre(geometry.rotation(jnp.array([33.0])), height=8, width=6)
    np.testing.assert_allclose(affine[0] @ jnp.array([3.0, 4.0, 1.0]), [3, 4], atol=1e-6)


def test_crops_are_windows_of_the_padded_image(images):
    rng = np.random.default_rng(0)
    top, left = rng.integers(0, 9, (2, len(images)))
    top[0], left[0] = 4, 4
    ours = jax.jit(geometry.crop, static_argnames="padding")(images, top, left, padding=4)
    np.testing.assert_array_equal(ours[0], images[0])
    for number, pixels in enumerate(images):
        padded = ImageOps.expand(Image.fromarray(pixels), border=4)
        x, y = int(left[number]), int(top[number])
        np.testing.assert_array_equal(ours[number], padded.crop((x, y, x + 32, y + 32)))


def test_crops_may_reflect_the_image_at_its_outermost_pixels(images):
    top, left = np.random.default_rng(1).integers(0, 9, (2, len(images)))
    ours = geometry.crop(images, top, left, padding=4, mode="reflect")
    columns = rows = np.array([4, 3, 2, 1, *range(32), 30, 29, 28, 27])
    for number, (y, x) in enumerate(zip(top, left, strict=True)):
        expected = images[number][np.ix_(rows[y : y + 32], columns[x : x + 32])]
        np.testing.assert_array_equal(ours[number], expected)


@pytest.mark.parametrize("size, tolerance", [((32, 32), 0), ((16, 32), 0), ((24, 20), 1)])
def test_enlarging_equals_pillow(images, size, tolerance):
    """Exactly where Pillow's fixed-point weights are exact."""
    rng = np.random.default_rng(2)
    cases = np.concatenate([images] * 10)[:, : size[0], : size[1]]
    height, width = (rng.integers(1, side + 1, len(cases)) for side in size)
    height[0], width[0] = size
    top, left = rng.integers(0, size[0] - height + 1), rng.integers(0, size[1] - width + 1)
    ours = jax.jit(geometry.enlarge)(cases, top=top, left=left, height=height, width=width)
    np.testing.assert_array_equal(ours[0], cases[0])
    theirs = []
    for pixels, y, x, rows, columns in zip(cases, top, left, height, width, strict=True):
        window = Image.fromarray(pixels[y : y + rows, x : x + columns])
        theirs.append(np.asarray(window.resize(size[::-1], Image.Resampling.BILINEAR)))
    difference = np.abs(np.asarray(ours).astype(int) - np.stack(theirs))
    assert difference.max() <= tolerance
    assert np.mean(difference) < 0.01


def test_flip_mirrors_only_where_told(images):
    mirrored = np.arange(len(images)) % 2 == 1
    ours = geometry.flip(images, mirrored)
    np.testing.assert_array_equal(ours[0], images[0])
    np.testing.assert_array_equal(ours[1], ImageOps.mirror(Image.fromarray(images[1])))


def test_boxes_are_half_open_and_clipped(images):
    sides = {"top": [-3, 5, 30], "left": [2, 9, 31], "bottom": [4, 5, 40], "right": [7, 12, 50]}
    colour = np.array([1, 2, 3])
    ours = geometry.fill_box(
        images[:3], **{name: np.array(side) for name, side in sides.items()}, colour=colour
    )
    expected = images[:3].copy()
    expected[0, 0:4, 2:7] = colour
    expected[2, 30:, 31:] = colour  # the second box is empty
    np.testing.assert_array_equal(ours, expected)
