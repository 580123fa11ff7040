"""ResNets for 32 x 32 pixels: shapes, published sizes, shortcuts, and depths that there are not."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import models
from ltssl_jax.core import Head, InputError
from ltssl_jax.models.cifar_resnet import Block
from ltssl_jax.models.layers import BatchNorm


def shapes(depth, *, image_shape=(32, 32, 3)):
    """Shapes of variables and outputs, without computing anything."""
    model = models.make("cifar_resnet", num_classes=10, heads=(Head("base"),), depth=depth)
    images = jnp.zeros((2, *image_shape))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, False))
    return variables, jax.eval_shape(lambda v: model.apply(v, images, False), variables)


@pytest.mark.parametrize("image_shape", [(32, 32, 3), (9, 7, 1)])
def test_there_are_64_features_whatever_the_image(image_shape):
    _, outputs = shapes(8, image_shape=image_shape)
    assert outputs.features.shape == (2, 64)
    assert outputs.logits["base"].shape == (2, 10)


@pytest.mark.parametrize("depth, number", [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_the_size_is_the_published_one(depth, number):
    """Counted in the authors' networks, linear classifier included; 0.27, 0.46, 0.85 M on paper."""
    variables, _ = shapes(depth)
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(variables["params"])) == number


@pytest.mark.parametrize("strides, filters", [(1, 4), (2, 8)])
def test_the_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides(strides, filters):
    conv = functools.partial(nn.Conv, padding=1, use_bias=False)
    block = Block(filters, strides, conv, BatchNorm)
    x = jnp.float32(np.random.default_rng(1).standard_normal((2, 5, 6, 4)))
    variables = block.init(jax.random.key(0), x, False)
    variables["params"]["bn2"]["scale"] = jnp.zeros(filters)  # the other branch is silent
    expected = np.zeros((2, -(-5 // strides), 6 // strides, filters))
    margin = (filters - 4) // 2
    expected[..., margin : margin + 4] = np.maximum(x[:, ::strides, ::strides], 0)
    np.testing.assert_array_equal(block.apply(variables, x, False), expected)


def test_the_branch_has_a_relu_between_its_convolutions():
    """2 relu(-x) + x is the absolute value of x."""
    conv = functools.partial(nn.Conv, padding=1, use_bias=False)
    block = Block(1, 1, conv, BatchNorm)
    x = jnp.array([-2.0, -1.0, 1.0, 3.0]).reshape(1, 2, 2, 1)
    variables = block.init(jax.random.key(0), x, False)
    identity = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    for name, factor in dict(conv1=-1.0, conv2=2.0).items():
        variables["params"][name]["kernel"] = factor * identity
    np.testing.assert_allclose(block.apply(variables, x, False), jnp.abs(x), rtol=1e-4)


@pytest.mark.parametrize("depth", [28, 2, -4])
def test_impossible_depth_is_refused(depth):
    with pytest.raises(InputError, match=f"depth 6 n \\+ 2, not {depth}"):
        shapes(depth)
