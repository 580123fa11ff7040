"""The same step on any number of devices, under any of the three maps."""

import importlib.metadata
import os
import subprocess
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, parallel
from ltssl_jax.core import InputError
from ltssl_jax.evaluation.evaluate import confusion_matrix
from ltssl_jax.methods.fixmatch import FixMatch
from ltssl_jax.models.layers import BatchNorm
from ltssl_jax.training import optim
from ltssl_jax.training.ema import Averaging
from ltssl_jax.training.step import make_eval_step, make_train_step, many
from tests import toy

SGD = optim.make(name="sgd", learning_rate=0.1, weight_decay=0.01, shrink=0.1, total_steps=10)
LAYOUTS = [("pmap", 8), ("pmap", 1), ("shard_map", 8), ("jit", 8)]


class TinyCNN(nn.Module):
    """Two convolutions with batch norm: what the real networks repeat."""

    axis_name: str | None
    momentum: float = 0.1

    @nn.compact
    def __call__(self, images, train):
        x = images
        for i in range(2):
            x = nn.Conv(4, (3, 3), strides=2, use_bias=False, name=f"conv{i}")(x)
            norm = BatchNorm(self.momentum, axis_name=self.axis_name, name=f"bn{i}")
            x = nn.relu(norm(x, train))
        return jnp.mean(x, axis=(1, 2))


def tiny_cnn(axis):
    return toy.network(TinyCNN(axis))


def trained(mode, num_devices):
    states, metrics = toy.train(
        2, mode=mode, num_devices=num_devices, model=tiny_cnn, optimizer=SGD
    )
    return jax.device_get((states[-1], metrics))


@pytest.fixture(scope="module")
def on_one_device():
    return trained("jit", 1)


@pytest.mark.parametrize("mode, num_devices", LAYOUTS)
def test_training_is_the_same_on_any_devices(mode, num_devices, on_one_device):
    found = trained(mode, num_devices)
    assert jax.tree.structure(found) == jax.tree.structure(on_one_device)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), found, on_one_device
    )


# --- evaluation -----------------------------------------------------------------------------------

NUM_IMAGES, BATCH_SIZE = 61, 64
IMAGES = np.random.default_rng(2).integers(0, 256, (NUM_IMAGES, *toy.SHAPE), np.uint8)
LABELS = np.random.default_rng(3).integers(0, toy.NUM_CLASSES, NUM_IMAGES).astype(np.int32)


def padded():
    """One batch of 64 rows, of which three count nothing."""
    rows = np.minimum(np.arange(BATCH_SIZE), NUM_IMAGES - 1)
    mask = np.float32(np.arange(BATCH_SIZE) < NUM_IMAGES)
    return core.EvalBatch(rows.astype(np.int32), LABELS[rows], mask, IMAGES[rows])


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_stacked_views_are_separate_ones_on_any_devices(mode):
    """A method of one pass per view, its batch statistics over the devices and for each view."""
    found = []
    for stack_views, how in ((False, ("jit", 1)), (True, (mode, 4))):
        runner = parallel.make(how[0], num_devices=how[1])
        step = make_train_step(
            FixMatch(0.2, num_strong=1, forward_mode="separate"),
            tiny_cnn(runner.axis),
            SGD,
            toy.PROBLEM,
            toy.GivenViews(),
            averaging=Averaging(0.9),
            seed=0,
            axis=runner.axis,
            stack_views=stack_views,
        )
        state = runner.replicate(toy.initial_state(tiny_cnn(None), FixMatch(), SGD))
        mapped = runner.map(step, num_shared=1)
        found.append(jax.device_get(mapped(state, runner.shard(toy.batch()), core.Resident())))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), *found)


@pytest.mark.parametrize("mode, num_devices", [("pmap", 8), ("shard_map", 8), ("jit", 1)])
def test_every_image_is_counted_once(mode, num_devices):
    runner = parallel.make(mode, num_devices=num_devices)
    views, method = toy.GivenViews(), toy.Method()
    model = toy.network(toy.Flat(axis_name=runner.axis))
    step = make_eval_step(method, model, toy.PROBLEM, views, axis=runner.axis)
    state = toy.initial_state()
    batches = [runner.shard(runner.share(padded()))] * 2
    found = confusion_matrix(runner.map(step), runner.replicate(state), batches)

    variables = {"params": state.ema.params, "batch_stats": state.ema.batch_stats}
    logits = toy.network(toy.Flat()).apply(variables, views.evaluation(IMAGES), False).logits
    expected = np.zeros((toy.NUM_CLASSES, toy.NUM_CLASSES), np.int64)
    np.add.at(expected, (LABELS, np.argmax(logits["base"], 1)), 2)
    assert found.dtype == np.int64 and found.sum() == 2 * NUM_IMAGES
    np.testing.assert_array_equal(found, expected)


# --- placing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", parallel.MODES)
def test_replicate_copies_and_places_on_every_device(mode):
    runner = parallel.make(mode, num_devices=4)
    x = jnp.arange(3.0)
    one, other = runner.replicate((x, x))
    pairs = zip(one.addressable_shards, other.addressable_shards, strict=True)
    shards = [(a.data, b.data) for a, b in pairs]
    assert len(shards) == 4
    pointers = {a.unsafe_buffer_pointer() for pair in shards for a in pair}
    assert len(pointers | {x.unsafe_buffer_pointer()}) == 9
    for pair in shards:
        np.testing.assert_array_equal(pair, [x, x])


@pytest.mark.parametrize("mode", parallel.MODES)
def test_shard_gives_each_device_contiguous_rows(mode):
    runner = parallel.make(mode, num_devices=4)
    rows = np.arange(16).reshape(8, 2)
    found = runner.shard(runner.share({"rows": rows, "none": None}))
    assert found["none"] is None
    for i, shard in enumerate(found["rows"].addressable_shards):
        assert shard.device == runner.devices[i]
        np.testing.assert_array_equal(shard.data.reshape(2, 2), rows[2 * i : 2 * i + 2])


def test_devices_are_those_asked_for():
    assert parallel.make().num_devices == 8
    assert parallel.make("pmap", num_devices=3).devices == tuple(jax.devices()[:3])
    axes = {mode: parallel.make(mode).axis for mode in parallel.MODES}
    assert axes == {"pmap": "data", "shard_map": "data", "jit": None}


def test_devices_are_described():
    assert parallel.describe(jax.devices()) == "8 cpu devices (no accelerator)"
    assert parallel.describe(jax.devices()[:1]) == "1 cpu device (no accelerator)"


# --- what cannot work -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 64])
def test_batches_that_divide_are_accepted(size):
    parallel.make(num_devices=8).check_batch("train.batch_size", size)


@pytest.mark.parametrize("size, nearest", [(61, 56), (12, 8), (7, 8), (1, 8)])
def test_batches_that_do_not_divide_are_refused(size, nearest):
    message = (
        f"train.batch_size is {size}, which does not divide among 8 devices;"
        f" use a multiple of 8 such as {nearest},"
    )
    with pytest.raises(InputError, match=message):
        parallel.make(num_devices=8).check_batch("train.batch_size", size)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(mode="pmapp"), "parallel.mode 'pmapp' is unknown; did you mean 'pmap'"),
        (dict(num_devices=9), "parallel.num_devices is 9, but 8 cpu devices .* at most 8"),
        (dict(num_devices=-1), "parallel.num_devices is -1"),
    ],
)
def test_impossible_layouts_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        parallel.make(**arguments)


# --- many steps at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode, num_devices", [("pmap", 4), ("shard_map", 4), ("jit", 1)])
def test_many_steps_at_once_are_steps_one_by_one(mode, num_devices):
    runner, state, step = toy.trainer(mode=mode, num_devices=num_devices, optimizer=SGD)
    rows, metrics = [toy.batch(seed=n) for n in range(3)], []
    one_by_one = state
    for row in rows:
        one_by_one, values = step(one_by_one, runner.shard(row), toy.RESIDENT)
        metrics.append(values)
    pure = toy.train_step(
        model=toy.network(toy.Flat(axis_name=runner.axis)), optimizer=SGD, axis=runner.axis
    )
    at_once = runner.map(many(pure), batch_axis=1, num_shared=1)
    stack = lambda *rows: runner.shard(jax.tree.map(lambda *x: np.stack(x), *rows), axis=1)  # noqa: E731
    found, averages = at_once(state, stack(*rows), toy.RESIDENT)
    expected = jax.tree.map(lambda *x: np.mean(x, axis=0), *metrics)
    assert_close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(assert_close, (found, averages), (one_by_one, expected))
    # A stack of one needs no loop, and is the step itself.
    found, averages = at_once(state, stack(rows[0]), toy.RESIDENT)
    expected = step(state, runner.shard(rows[0]), toy.RESIDENT)
    jax.tree.map(assert_close, (found, averages), expected)


# --- processors -----------------------------------------------------------------------------------

FAST = "--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


@pytest.mark.parametrize(
    "flags, version, expected",
    [
        (None, "0.10.2", FAST),
        ("--xla_dump_to=/tmp", "0.12.0.1", f"--xla_dump_to=/tmp {FAST}"),
        ("--xla_cpu_experimental_ynn_fusion_type=", "0.11.0", "="),
        (None, "0.13.0", None),  # a flag that XLA does not know ends the process
        (None, "0.14rc1", None),
    ],
)
def test_convolutions_are_chosen_unless_the_user_did(flags, version, expected):
    environment = {} if flags is None else {"XLA_FLAGS": flags}
    parallel.choose_convolutions(environment, version)
    found = environment.get("XLA_FLAGS")
    assert found == (flags if expected == "=" else expected)


def test_xla_knows_the_flags():
    """XLA ends a process that sets a flag unknown to it."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", XLA_FLAGS="")
    parallel.choose_convolutions(environment, importlib.metadata.version("jaxlib"))
    code = "import jax, os; print(jax.device_count(), os.environ['XLA_FLAGS'])"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("word, expected", [("auto", False), ("on", True), ("off", False)])
def test_views_are_stacked_on_accelerators_or_as_told(word, expected):
    assert parallel.make().stacks(word) is expected
    gpu = parallel.Runner("pmap", (types.SimpleNamespace(platform="gpu"),))
    assert gpu.stacks(word) is (word != "off")
    with pytest.raises(InputError, match="parallel.stack_views 'yes' is unknown"):
        parallel.make().stacks("yes")
