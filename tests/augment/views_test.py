"""Recipes and views: what randomness they depend on, distributions, shapes, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.augment import fixmatch, views
from ltssl_jax.augment.randaugment import rand_augment
from ltssl_jax.core import InputError, Needs, RawBatch, Resident, Stream

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def make(recipe="tras", *, strong=2, mean=MEAN, std=STD):
    return views.make(recipe, needs=Needs(strong=strong), mean=mean, std=std)


def stream_of(images, *, slots=None):
    index = np.arange(len(images), dtype=np.int32)
    slots = index if slots is None else np.asarray(slots, np.int32)
    return Stream(index=index, slot=slots, label=index % 3, image=images)


def normalized(pixels):
    return (pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


@pytest.fixture(scope="module")
def step():
    """One compiled function for most tests: ten 32 x 32 images in each stream."""
    tras = make()
    return jax.jit(lambda raw, key, step: tras(raw, Resident(), key, step))


@pytest.fixture(scope="module")
def raw(images):
    return RawBatch(labeled=stream_of(images), unlabeled=stream_of(images))


def assert_batches_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def views_of(batch):
    return batch.labeled.image, batch.unlabeled.weak, *batch.unlabeled.strong


def differ(one, other):
    """True where images of two batches differ; the last image has one colour and may not."""
    return np.any(np.asarray(one) != np.asarray(other), axis=(1, 2, 3))[:-2]


def test_views_are_named_by_key_step_stream_and_slot(step, raw, images):
    key = jax.random.key(0)
    batch = step(raw, key, 3)
    assert_batches_equal(batch, step(raw, key, 3))
    other_slots = stream_of(images, slots=np.arange(10) + 10)
    for other in (
        step(raw, key, 4),
        step(raw, jax.random.key(1), 3),
        step(RawBatch(other_slots, other_slots), key, 3),
    ):
        for one, another in zip(views_of(batch), views_of(other), strict=True):
            assert differ(one, another).mean() > 0.7
    all_views = views_of(batch)
    for number, one in enumerate(all_views):
        for another in all_views[number + 1 :]:
            assert differ(one, another).mean() > 0.7


def test_views_of_an_example_ignore_the_rest_of_the_batch(step, raw, images):
    """Halves on two devices, and a shuffled batch, give what the whole gives."""
    key = jax.random.key(7)
    whole = step(raw, key, 5)
    tras = make()
    halves = jax.tree.map(lambda x: x.reshape(2, 5, *x.shape[1:]), raw)
    over_devices = jax.pmap(
        lambda raw, step: tras(raw, Resident(), key, step),
        in_axes=(0, None),
        devices=jax.devices()[:2],
    )(halves, 5)
    assert_batches_equal(whole, jax.tree.map(lambda x: x.reshape(10, *x.shape[2:]), over_devices))
    order = np.random.default_rng(0).permutation(10)
    shuffled = step(jax.tree.map(lambda x: x[order], raw), key, 5)
    assert_batches_equal(jax.tree.map(lambda x: x[order], whole), shuffled)


def test_resident_images_equal_sent_ones(images):
    plain = make("none")
    index = np.array([3, 1, 3, 8], np.int32)
    without = stream_of(images[index]).replace(index=index, image=None)
    sent = without.replace(image=images[index])
    resident = Resident(labeled=jnp.asarray(images), unlabeled=jnp.asarray(images[::-1].copy()))
    batch = plain(RawBatch(without, sent), resident, jax.random.key(0), 0)
    np.testing.assert_array_equal(batch.labeled.image, plain.evaluation(images[index]))
    np.testing.assert_array_equal(batch.unlabeled.weak, plain.evaluation(images[index]))
    batch = plain(RawBatch(sent, without), resident, jax.random.key(0), 0)
    np.testing.assert_array_equal(batch.labeled.image, plain.evaluation(images[index]))
    np.testing.assert_array_equal(batch.unlabeled.weak, plain.evaluation(images[::-1][index]))
    np.testing.assert_array_equal(batch.labeled.label, without.label)
    np.testing.assert_array_equal(batch.unlabeled.index, index)


def test_weak_view_is_a_padded_crop_perhaps_mirrored(step, raw, images):
    weak = np.asarray(step(raw, jax.random.key(0), 0).unlabeled.weak)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for view, source in zip(weak, padded, strict=True):
        windows = (source[y : y + 32, x : x + 32] for y in range(9) for x in range(9))
        candidates = (side for window in windows for side in (window, window[:, ::-1]))
        assert any(np.allclose(view, normalized(pixels), atol=1e-5) for pixels in candidates)


def test_strong_view_is_randaugment_crop_flip_normalize_cutout(images):
    """The published order, replayed on the host from the same uniforms."""
    tras = make()
    view = tras.recipe.strong
    uniforms = np.random.default_rng(4).random((10, view.draws), dtype=np.float32)
    ours = jax.jit(view.apply, static_argnames="normalize")(
        images, uniforms, normalize=tras.evaluation
    )
    pixels = rand_augment(images, uniforms[:, :9], num_ops=3, level=4 / 30)
    padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for number, (top, left, mirror, row, column) in enumerate(uniforms[:, 9:]):
        y, x = int(9 * top), int(9 * left)
        expected = padded[number, y : y + 32, x : x + 32]
        expected = normalized(expected[:, ::-1] if mirror < 0.5 else expected)
        y, x = int(32 * row), int(32 * column)
        expected[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] = 0
        np.testing.assert_allclose(ours[number], expected, atol=1e-5)


def test_fixmatch_views_are_flip_reflected_crop_and_then_randaugment_and_cutout(images):
    """The published order, replayed on the host from the same uniforms."""
    recipe = make("fixmatch")
    weak, strong = recipe.recipe.weak, recipe.recipe.strong
    uniforms = np.random.default_rng(5).random((10, strong.draws), dtype=np.float32)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    pixels = []
    for source, (mirror, top, left) in zip(padded, uniforms[:, :3], strict=True):
        source = source[:, ::-1] if mirror < 0.5 else source
        pixels.append(source[int(9 * top) : int(9 * top) + 32, int(9 * left) : int(9 * left) + 32])
    pixels = np.stack(pixels)
    ours = weak.apply(images, uniforms[:, :3], normalize=recipe.evaluation)
    np.testing.assert_allclose(ours, normalized(pixels), atol=1e-5)
    pixels = fixmatch.rand_augment(pixels, uniforms[:, 3:11], num_ops=2)
    pixels = fixmatch.cutout(pixels, uniforms[:, 11:])
    ours = strong.apply(images, uniforms, normalize=recipe.evaluation)
    np.testing.assert_allclose(ours, normalized(np.asarray(pixels)), atol=1e-5)


def test_contrastive_views_and_fixmatchs_are_named_by_key_step_stream_and_slot(raw, images):
    needs = Needs(strong=2, contrastive=2)
    recipe = views.make("fixmatch", needs=needs, mean=MEAN, std=STD)
    step = jax.jit(lambda raw, key, step: recipe(raw, Resident(), key, step))

    def made(raw, key, step_number):
        batch = step(raw, jax.random.key(key), step_number)
        contrastive = *batch.labeled.contrastive, *batch.unlabeled.contrastive
        assert len(contrastive) == 4
        return *views_of(batch), *contrastive

    first = made(raw, 0, 3)
    assert_batches_equal(first, made(raw, 0, 3))
    other_slots = stream_of(images, slots=np.arange(10) + 10)
    others = [made(raw, 0, 4), made(raw, 1, 3), made(RawBatch(other_slots, other_slots), 0, 3)]
    for other in others:
        for one, another in zip(first, other, strict=True):
            assert differ(one, another).mean() > 0.7
    for number, one in enumerate(first):
        for another in first[number + 1 :]:
            assert differ(one, another).mean() > 0.7
    order = np.random.default_rng(0).permutation(10)
    shuffled = made(jax.tree.map(lambda x: x[order], raw), 0, 3)
    assert_batches_equal(tuple(view[order] for view in first), shuffled)


def test_contrastive_views_are_simclrs_but_for_digits():
    recipes = views.RECIPES
    assert recipes["tras"].contrastive is recipes["fixmatch"].contrastive
    assert recipes["digits"].contrastive is recipes["digits"].strong  # a mirrored 2 is no 2
    assert recipes["tras"].contrastive.draws == 22 + 1 + 9 + 1 + 2


@pytest.mark.parametrize("size, channels", [(8, 1), (16, 3), (8, 4)])
def test_contrastive_views_are_finite_at_any_number_of_channels(images, size, channels):
    images = np.concatenate([images, images], axis=-1)[:4, :size, :size, :channels]
    needs = Needs(contrastive=1)
    recipe = views.make("fixmatch", needs=needs, mean=(0.5,), std=(0.25,))
    raw = RawBatch(stream_of(images), stream_of(images))
    (view,) = jax.jit(recipe)(raw, Resident(), jax.random.key(0), 0).labeled.contrastive
    assert view.shape == images.shape and view.dtype == jnp.float32
    assert np.isfinite(view).all() and np.abs(view).max() <= 2


def test_weak_views_are_uniform_over_windows_and_sides():
    """A single bright pixel, off centre, shows where each of 16,000 windows was cut."""
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[0, 8, 5] = 255
    num = 16_000
    batch = np.broadcast_to(image, (num, 16, 16, 1))
    raw = RawBatch(stream_of(image), stream_of(batch))
    only_weak = jax.jit(make(strong=0, mean=(0.0,), std=(1.0,)))
    unlabeled = only_weak(raw, Resident(), jax.random.key(0), 1).unlabeled
    assert unlabeled.strong == ()
    _, row, column, _ = np.nonzero(np.asarray(unlabeled.weak))
    assert len(row) == num  # padding 2 never loses the pixel
    rows = np.bincount(row, minlength=16)[6:11]
    assert rows.sum() == num and np.abs(rows - num / 5).max() < 5 * 51
    # Columns 3..7 unmirrored, 8..12 mirrored: ten equally likely places.
    columns = np.bincount(column, minlength=16)[3:13]
    assert columns.sum() == num and np.abs(columns - num / 10).max() < 5 * 38


def test_uniforms_are_uniform_and_independent():
    slots = np.arange(20_000, dtype=np.int32)
    uniforms = np.asarray(views._uniforms(jax.random.key(0), views.UNLABELED, 0, slots, 4))
    assert uniforms.min() >= 0 and uniforms.max() < 1
    counts = np.stack([np.histogram(column, 16, (0, 1))[0] for column in uniforms.T])
    assert np.abs(counts - 1250).max() < 5 * 35
    assert np.abs(np.corrcoef(uniforms.T) - np.eye(4)).max() < 0.04
    labeled = np.asarray(views._uniforms(jax.random.key(0), views.LABELED, 0, slots, 4))
    assert not np.any(labeled == uniforms, axis=1).any()


def test_cutout_area_and_centre():
    """Squares of 3 x 3, cut where their centre is at the border; the centre is uniform."""
    num = 4_000
    uniforms = np.random.default_rng(0).random((num, 2), dtype=np.float32)
    ones = jnp.ones((num, 8, 8, 1))
    hidden = 1 - np.asarray(views._erase_square(ones, uniforms, fraction=3 / 8))[..., 0]
    assert hidden.sum(axis=(1, 2)).max() == 9
    expected = np.array([2, 3, 3, 3, 3, 3, 3, 2]) / 8  # centres that hide a row
    np.testing.assert_allclose(hidden.mean(axis=0), np.outer(expected, expected), atol=0.03)


def test_digits_warp_is_turn_shear_scale_and_shift_about_the_centre(monkeypatch, grey_images):
    """The affine map in float64, and its action on an image in the middle of all ranges."""
    images = grey_images[:5, :8, :8]
    np.testing.assert_array_equal(views._warp(images, np.full((5, 5), 0.5, np.float32)), images)
    monkeypatch.setattr(views.geometry, "warp_bilinear", lambda images, affine: affine)
    uniforms = np.random.default_rng(0).random((5, 5), dtype=np.float32)
    ours = views._warp(images, jnp.asarray(uniforms))
    for affine, (turn, shear, scale, right, down) in zip(ours, 2.0 * uniforms - 1, strict=True):
        angle = np.deg2rad(25 * turn)
        rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = rotate @ [[1, 0.3 * shear], [0, 1]] / (1 + 0.15 * scale)
        for point in ([0, 0], [8, 0], [3, 5]):
            expected = linear @ np.subtract(point, 4) + 4 + np.array([1.5 * right, 1.5 * down])
            np.testing.assert_allclose(affine @ jnp.array([*point, 1.0]), expected, atol=1e-5)


def test_digits_contrast_spreads_values_about_their_mean():
    image = np.array([50, 100, 150], np.uint8).reshape(1, 1, 3, 1)
    for uniform, expected in [(0, (70, 100, 130)), (0.5, (50, 100, 150)), (1, (30, 100, 170))]:
        ours = views._contrast(image, np.array([[uniform]], np.float32))
        np.testing.assert_allclose(ours.ravel(), expected, atol=1)  # truncated


@pytest.mark.parametrize("recipe", sorted(views.RECIPES))
@pytest.mark.parametrize("size, channels", [(8, 1), (16, 3), (8, 4)])
def test_every_recipe_makes_finite_float_views(images, recipe, size, channels):
    images = np.concatenate([images, images], axis=-1)[:4, :size, :size, :channels]
    made = make(recipe, mean=(0.5,), std=(0.25,))
    raw = RawBatch(stream_of(images[:2]), stream_of(images))
    batch = jax.jit(made)(raw, Resident(), jax.random.key(0), 0)
    assert len(batch.unlabeled.strong) == 2
    for view in (batch.unlabeled.weak, *batch.unlabeled.strong):
        assert view.shape == images.shape and view.dtype == jnp.float32
        assert np.isfinite(view).all() and np.abs(view).max() <= 2
    assert batch.labeled.image.shape == (2, size, size, channels)
    if recipe == "none":
        np.testing.assert_allclose(batch.unlabeled.strong[1], made.evaluation(images), atol=1e-6)


def test_evaluation_normalizes_per_channel(images):
    ours = make().evaluation(images)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, normalized(images.astype(np.float64)), atol=1e-5)


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match=r"'trass'.*did you mean 'tras'.*digits"):
        make("trass")


@pytest.mark.parametrize("mean, std", [((0.5, 0.5), (1.0, 1.0)), ((0.5,), (1.0, 1.0, 1.0))])
def test_mean_and_std_must_fit_the_channels(images, mean, std):
    with pytest.raises(InputError, match="3 channels"):
        jax.eval_shape(make(mean=mean, std=std).evaluation, images)
