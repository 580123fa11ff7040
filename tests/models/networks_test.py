"""Networks: shapes, sizes, the entry of the widening blocks, precision, and names."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import models
from ltssl_jax.core import Head, InputError
from ltssl_jax.models.layers import BatchNorm
from ltssl_jax.models.wide_resnet import Block

HEADS = (Head("base"), Head("projection", size=6, kind="mlp"))


def shapes(name="wide_resnet", *, heads=HEADS, image_shape=(32, 32, 3), train=False, **fields):
    """Shapes of variables and outputs, without computing anything."""
    model = models.make(name, num_classes=10, heads=heads, **fields)
    images = jnp.zeros((2, *image_shape))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, False))
    outputs, updated = jax.eval_shape(
        lambda v: model.apply(v, images, train, mutable=["batch_stats"]), variables
    )
    return variables, outputs, updated


def size(tree):
    return sum(np.prod(x.shape) for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "fields, num_features",
    [
        (dict(depth=10, width=1), 64),
        (dict(depth=10, width=2), 128),
        (dict(depth=28, width=2), 128),
    ],
)
def test_wide_resnet_shapes(fields, num_features):
    _, outputs, _ = shapes(**fields)
    assert outputs.features.shape == (2, num_features)
    assert {name: x.shape for name, x in outputs.logits.items()} == {
        "base": (2, 10),
        "projection": (2, 6),
    }


def test_wide_resnet_works_on_other_image_shapes():
    _, outputs, _ = shapes(depth=10, width=1, image_shape=(20, 12, 1))
    assert outputs.features.shape == (2, 64)


def wide_resnet_size(depth, width, channels_in, *, with_dead_norms):
    """Number of parameters of the backbone, counted layer by layer."""
    widths = [16, 16 * width, 32 * width, 64 * width]
    total = 9 * channels_in * 16 + 2 * widths[3]  # first convolution, last norm
    for stage in (1, 2, 3):
        before = widths[stage - 1]
        after = widths[stage]
        for _ in range((depth - 4) // 6):
            is_widening = before != after
            is_dead = is_widening and stage > 1
            total += 9 * before * after + 9 * after * after + 2 * after
            total += before * after * is_widening
            total += 2 * before * (with_dead_norms or not is_dead)
            before = after
    return total


@pytest.mark.parametrize("depth, width", [(10, 1), (28, 2)])
@pytest.mark.parametrize("activate_entry", [True, False])
def test_wide_resnet_size(depth, width, activate_entry):
    heads = (Head("base"),)
    variables, *_ = shapes(depth=depth, width=width, activate_entry=activate_entry, heads=heads)
    expected = wide_resnet_size(depth, width, 3, with_dead_norms=activate_entry)
    assert size(variables["params"]["backbone"]) == expected


def test_wide_resnet_28_2_has_the_published_size_but_for_the_dead_norms():
    """1,467,610 in the papers; the released networks count two norms whose result they drop."""
    head = 128 * 10 + 10
    assert wide_resnet_size(28, 2, 3, with_dead_norms=True) + head == 1_467_610
    variables, *_ = shapes(depth=28, width=2, heads=(Head("base"),))
    assert size(variables["params"]) == 1_467_610 - 2 * (32 + 64)


def entries(**fields):
    """Who sees the normalized input, by block."""
    found = {}

    def record(next_fn, args, kwargs, context):
        if isinstance(context.module, Block):
            found[context.module.name] = context.module.entry
        return next_fn(*args, **kwargs)

    with nn.intercept_methods(record):
        shapes(**fields)
    return found


def test_only_the_widening_blocks_of_stages_two_and_three_have_a_choice():
    expected = {"block1_0": "both", "block1_1": "branch"}
    for stage in (2, 3):
        expected |= {f"block{stage}_0": "none", f"block{stage}_1": "branch"}
    assert entries(depth=16, width=2) == expected
    textbook = expected | {"block2_0": "branch", "block3_0": "branch"}
    assert entries(depth=16, width=2, activate_entry=True) == textbook
    # Width 1 does not widen in stage one.
    assert entries(depth=10, width=1)["block1_0"] == "branch"


def block_differences(entry):
    """How the answers to two images differ if the first norm says 1 to everything, and why."""
    conv = functools.partial(nn.Conv, use_bias=False)
    block = Block(4, 2, entry, conv, BatchNorm)
    x = jnp.float32(np.random.default_rng(7).standard_normal((2, 4, 4, 3)))
    key = jax.random.key(0, impl="rbg")
    variables = jax.jit(lambda: block.init(key, x, False))()
    if entry != "none":
        constant = {"scale": jnp.zeros(3), "bias": jnp.ones(3)}
        variables = {**variables, "params": variables["params"] | {"bn1": constant}}
    y = jax.jit(lambda v: block.apply(v, x, False))(variables)
    assert y.shape == (2, 2, 2, 4)
    shortcut = x[:, ::2, ::2] @ variables["params"]["shortcut"]["kernel"][0, 0]
    return y[0] - y[1], shortcut[0] - shortcut[1], variables


def test_entry_both_normalizes_for_shortcut_and_branch():
    difference, *_ = block_differences("both")
    np.testing.assert_allclose(difference, 0, atol=1e-5)


def test_entry_branch_leaves_the_shortcut_as_it_is():
    difference, of_shortcut, _ = block_differences("branch")
    np.testing.assert_allclose(difference, of_shortcut, rtol=1e-4, atol=1e-5)


def test_entry_none_has_no_first_norm():
    difference, of_shortcut, variables = block_differences("none")
    assert "bn1" not in variables["params"]
    assert not np.allclose(difference, of_shortcut, atol=1e-2)


@pytest.mark.parametrize(
    "name, fields", [("small_cnn", dict(width=4)), ("wide_resnet", dict(depth=10, width=1))]
)
def test_bfloat16_computes_and_float32_remembers(name, fields):
    for tree in shapes(name, dtype="bfloat16", train=True, **fields):
        assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}


def test_bfloat16_is_near_float32():
    images = jnp.float32(np.random.default_rng(8).standard_normal((4, 8, 8, 1)))
    exact, rough = [
        models.make("small_cnn", num_classes=3, heads=(), width=4, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    ]
    key = jax.random.key(0, impl="rbg")
    variables = jax.jit(lambda: exact.init(key, images, False))()
    found = [
        jax.jit(lambda v, model=model: model.apply(v, images, False).features)(variables)
        for model in (exact, rough)
    ]
    difference = np.abs(found[0] - found[1]).max() / np.abs(found[0]).max()
    assert 0 < difference < 0.1


def test_small_cnn_shapes():
    variables, outputs, _ = shapes("small_cnn", width=4, image_shape=(8, 8, 1))
    assert outputs.features.shape == (2, 16)
    widths = [variables["params"]["backbone"][f"conv{i}"]["kernel"].shape[3] for i in range(4)]
    assert widths == [4, 8, 8, 16]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(name="wide_resnt"), "model 'wide_resnt' is unknown; did you mean 'wide_resnet'"),
        (dict(dtype="float16"), "model.dtype 'float16' is unknown; did you mean 'bfloat16'"),
        (dict(widht=2), "field of model 'wide_resnet': 'widht' is unknown; did you mean 'width'"),
        (dict(axis="data"), "field of model 'wide_resnet': 'axis' is unknown"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    arguments = dict(name="wide_resnet", num_classes=10, heads=HEADS) | arguments
    with pytest.raises(InputError, match=message):
        models.make(**arguments)


@pytest.mark.parametrize("depth", [27, 4, -2])
def test_impossible_depth_is_refused(depth):
    with pytest.raises(InputError, match=f"depth 6 n \\+ 4, not {depth}"):
        shapes(depth=depth, width=2)
