"""Named recipes: which operations make the weak and the strong views of a data set.

An example's views depend on its image and on (key, stream, step, slot), on nothing else: not on the
other examples, nor on how the batch is spread over devices.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltssl_jax import core
from ltssl_jax.augment import colour, fixmatch, geometry, randaugment, simclr
from ltssl_jax.core import Array, Images, InputError

LABELED, UNLABELED, BALANCED = 0, 1, 2  # names of the streams in the keys


# --- random operations: batched images and uniforms [B, draws] -> images --------------------------


class Op(NamedTuple):
    """A random operation: `draws` uniforms per example, and what it makes of images with them."""

    draws: int
    apply: Callable[[Images, Array], Images]


def _crop(images, uniforms, *, mode):
    padding = images.shape[1] // 8
    top, left = _below(uniforms, 2 * padding + 1).T
    return geometry.crop(images, top, left, padding=padding, mode=mode)


def _flip(images, uniforms):
    return geometry.flip(images, uniforms[:, 0] < 0.5)


def _erase_square(images, uniforms, *, fraction):
    """Zeroes a square, centred anywhere, whose side is a fraction of the height."""
    height, width, channels = images.shape[1:]
    side = int(height * fraction)
    top = _below(uniforms[:, 0], height) - side // 2
    left = _below(uniforms[:, 1], width) - side // 2
    zeros = jnp.zeros(channels)
    return geometry.fill_box(
        images, top=top, left=left, bottom=top + side, right=left + side, colour=zeros
    )


def _warp(images, uniforms):
    """Turns (25 degrees), shears (0.3), scales (15 %) and shifts (1.5 pixels of 8) at once."""
    height, width = images.shape[1:3]
    turn, shear, scale, right, down = (2 * uniforms - 1).T
    one, zero = jnp.ones_like(shear), jnp.zeros_like(shear)
    slant = jnp.stack([one, 0.3 * shear, zero, one], axis=-1).reshape(-1, 2, 2)
    linear = jnp.matmul(geometry.rotation(25 * turn), slant, precision="highest")
    linear /= (1 + 0.15 * scale)[:, None, None]
    affine = geometry.about_centre(linear, height=height, width=width)
    shift = 1.5 * height / 8 * jnp.stack([right, down], axis=-1)
    return geometry.warp_bilinear(images, affine.at[:, :, 2].add(shift))


def _contrast(images, uniforms):
    grey = colour.mean_luma(images)[:, None, None, None]
    return colour.blend(grey, images, 0.6 + 0.8 * uniforms[:, 0])


def _below(uniforms, bound):
    """Turns uniforms into integers in `[0, bound)`."""
    return jnp.floor(uniforms * bound).astype(jnp.int32)


def _rand_augment(*, num_ops, level):
    apply = functools.partial(randaugment.rand_augment, num_ops=num_ops, level=level)
    return Op(num_ops * randaugment.DRAWS_PER_OP, apply)


def _cutout(fraction):
    return Op(2, functools.partial(_erase_square, fraction=fraction))


_CROP = Op(2, functools.partial(_crop, mode="constant"))
_REFLECT_CROP = Op(2, functools.partial(_crop, mode="reflect"))
_FLIP, _WARP, _CONTRAST = Op(1, _flip), Op(5, _warp), Op(1, _contrast)


# --- recipes --------------------------------------------------------------------------------------


class View(NamedTuple):
    """Operations on uint8 images, and operations on the normalized float32 images, in order."""

    pixels: tuple[Op, ...] = ()
    normalized: tuple[Op, ...] = ()

    @property
    def draws(self) -> int:
        """Counts the uniforms that an example needs."""
        return sum(op.draws for op in self.pixels + self.normalized)

    def apply(
        self, images: Images, uniforms: Array, *, normalize: Callable[[Images], Images]
    ) -> Images:
        """Makes this view of uint8 images `[B, H, W, C]` with uniforms `[B, draws]`."""
        images, uniforms = _in_order(self.pixels, images, uniforms)
        return _in_order(self.normalized, normalize(images), uniforms)[0]


def _in_order(ops, images, uniforms):
    """Applies each operation with its share of the uniforms; returns the unused ones too."""
    for op in ops:
        share, uniforms = jnp.split(uniforms, [op.draws], axis=1)
        images = op.apply(images, share)
    return images, uniforms


class Recipe(NamedTuple):
    """How the kinds of views are made."""

    weak: View
    strong: View
    contrastive: View


_TRAS_STRONG = View(
    pixels=(_rand_augment(num_ops=3, level=4 / 30), _CROP, _FLIP), normalized=(_cutout(1 / 2),)
)
_DIGITS_STRONG = View(pixels=(_WARP, _CONTRAST), normalized=(_cutout(3 / 8),))
_FIXMATCH_STRONG = View(
    (
        _FLIP,
        _REFLECT_CROP,
        Op(2 * fixmatch.DRAWS_PER_OP, functools.partial(fixmatch.rand_augment, num_ops=2)),
        Op(2, fixmatch.cutout),
    )
)
_SIMCLR = View(
    (
        _FLIP,  # published after the crop, which is as likely; the compiler then fuses them badly
        Op(simclr.CROP_DRAWS, simclr.resized_crop),
        Op(simclr.JITTER_DRAWS, simclr.jitter),
        Op(1, simclr.to_grey),
        Op(simclr.BLUR_DRAWS, simclr.blur),
    )
)
# Sizes in pixels follow the height of the images.
RECIPES = {
    # Stomach-ache/TRAS, dataset/fix_cifar10.py; at height 32: crop padding 4, cutout 16.
    "tras": Recipe(View((_CROP, _FLIP)), _TRAS_STRONG, _SIMCLR),
    # kekmodel/FixMatch-pytorch, dataset/cifar.py, as in ACR, DASO, SimPro and CCL; sizes as above.
    "fixmatch": Recipe(View((_FLIP, _REFLECT_CROP)), _FIXMATCH_STRONG, _SIMCLR),
    # Small grey images whose meaning changes when mirrored; at height 8: crop padding 1, cutout 3.
    "digits": Recipe(View((_CROP,)), _DIGITS_STRONG, _DIGITS_STRONG),
    "none": Recipe(View(), View(), View()),
}


def make(
    recipe: str, *, needs: core.Needs, mean: tuple[float, ...], std: tuple[float, ...]
) -> "Views":
    """Builds the function that turns raw batches into views.

    Args:
      recipe: a name in `RECIPES`.
      needs: which views the method asks for.
      mean, std: per channel, or one number for all, of images scaled to `[0, 1]`.

    Returns:
      A `Views`.

    Raises:
      InputError: an unknown recipe, or statistics that cannot be.
    """
    if recipe not in RECIPES:
        raise InputError.unknown("augment.recipe", recipe, RECIPES)
    for value in (*mean, *std):
        if not isinstance(value, int | float):
            raise InputError(f"augment.mean and augment.std hold {value!r}; give numbers")
    if not all(value > 0 for value in std):
        raise InputError(f"augment.std is {std}; every value must be positive")
    return Views(RECIPES[recipe], needs, tuple(mean), tuple(std))


@dataclasses.dataclass(frozen=True)
class Views:
    """Makes the views of one step, on the device, inside the compiled step.

    Attributes:
      recipe: the operations.
      needs: how many views of each kind.
      mean, std: per channel, or one number for all.
    """

    recipe: Recipe
    needs: core.Needs
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(
        self, raw: core.RawBatch, resident: core.Resident, key: Array, step: Array
    ) -> core.Batch:
        """Makes the views that the method needs.

        Args:
          raw: the streams of the step.
          resident: the images of streams that bring only indices.
          key: the JAX key of the run's pixels.
          step: int32, number of updates finished.

        Returns:
          A batch of normalized float32 views.

        Raises:
          InputError: if mean, std and the images' channels do not fit together.
        """
        balanced = None
        if raw.balanced is not None:
            balanced = self._labeled(BALANCED, raw.balanced, resident.labeled, key, step)
        return core.Batch(
            labeled=self._labeled(LABELED, raw.labeled, resident.labeled, key, step),
            unlabeled=self._unlabeled(raw.unlabeled, resident.unlabeled, key, step),
            balanced=balanced,
        )

    def evaluation(self, images: Images) -> Images:
        """Normalizes uint8 images `[..., H, W, C]` to float32, without augmentation."""
        return self._normalize(images)

    def _labeled(self, name, stream, resident, key, step):
        numbers = (1, self.needs.labeled_strong, self.needs.contrastive)
        weak, strong, contrastive = self._views(name, stream, resident, key, step, numbers)
        return core.Labeled(weak[0], stream.label, stream.index, strong, contrastive)

    def _unlabeled(self, stream, resident, key, step):
        numbers = (self.needs.weak, self.needs.strong, self.needs.contrastive)
        weak, strong, contrastive = self._views(UNLABELED, stream, resident, key, step, numbers)
        return core.Unlabeled(weak[0], strong, stream.index, weak[1:], contrastive)

    def _views(self, name, stream, resident, key, step, numbers):
        """Makes so many views of each kind of the recipe; a tuple of views for each kind."""
        images = _look_up(stream, resident)
        draws = [n * view.draws for n, view in zip(numbers, self.recipe, strict=True)]
        uniforms = _uniforms(key, name, step, stream.slot, sum(draws))
        shares = jnp.split(uniforms, [draws[0], draws[0] + draws[1]], axis=1)
        made = zip(self.recipe, numbers, shares, strict=True)
        return tuple(self._several(view, images, n, share) for view, n, share in made)

    def _several(self, view, images, number, uniforms):
        if not number:
            return ()
        # All views of a kind in one batch, so that their operations are compiled once.
        stacked = jnp.concatenate([images] * number)
        uniforms = jnp.concatenate(jnp.split(uniforms, number, axis=1))
        views = view.apply(stacked, uniforms, normalize=self._normalize)
        return tuple(jnp.split(views, number))

    def _normalize(self, images):
        channels = images.shape[-1]
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, channels):
            raise InputError(
                f"images have {channels} channels, but mean has {len(self.mean)} and std "
                f"{len(self.std)} values; give one value per channel, or one for all"
            )
        shape = (1,) * (images.ndim - 1) + (-1,)
        mean, std = jnp.array(self.mean).reshape(shape), jnp.array(self.std).reshape(shape)
        return (images / jnp.float32(255) - mean) / std


def _look_up(stream, resident):
    return resident[stream.index] if stream.image is None else stream.image


def _uniforms(key, stream, step, slot, draws):
    """Draws `[B, draws]` float32 in `[0, 1)`, in one block per example."""
    key = jax.random.fold_in(jax.random.fold_in(key, stream), step)
    bits = jax.vmap(lambda slot: jax.random.bits(jax.random.fold_in(key, slot), (draws,)))(slot)
    # 24 bits are what float32 holds: the largest uniform stays below 1.
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)
