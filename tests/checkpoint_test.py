"""Checkpoints: exact, kept by score, and refused to another experiment."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.checkpoint import CheckpointStore
from ltssl_jax.core import InputError, Resident
from tests import toy

IDENTITY = {
    "seed": 0,
    "method": {"name": "tras", "A": 2.0},
    "data": {"class_names": ("cat", "dog"), "image_shape": (8, 8, 1)},
    "versions": {"jax": "0.10.2"},
}


@pytest.fixture(scope="module")
def state():
    """Step 0 with a number of every kind in every corner, on the host."""
    start = jax.device_get(toy.initial_state())
    bits = np.random.default_rng(9)

    def filled(x):
        noise = bits.standard_normal(x.shape).astype(x.dtype)
        return noise if x.dtype == np.float32 else np.array(x + 7, x.dtype)

    filled_state = jax.tree.map(filled, start)
    return filled_state.replace(step=np.array(0, np.int32))


def at(state, step):
    return state.replace(
        step=np.array(step, np.int32), params=jax.tree.map(lambda x: x + step, state.params)
    )


def zeros_like(state):
    return jax.tree.map(np.zeros_like, state)


def save(directory, *states, identity=IDENTITY, scores=None):
    with CheckpointStore(directory, identity) as store:
        for n, state in enumerate(states):
            store.save(state, scores and {"balanced_accuracy": scores[n]})


def steps_on_disk(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def snapshot(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def assert_identical(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        assert x.tobytes() == y.tobytes()


def test_a_state_comes_back_bit_by_bit(tmp_path, state):
    save(tmp_path, at(state, 3))
    with CheckpointStore(tmp_path, IDENTITY) as store:
        assert_identical(store.restore_or(zeros_like(state)), at(state, 3))


def test_the_state_is_returned_where_there_is_no_checkpoint(tmp_path, state):
    with CheckpointStore(tmp_path / "new" / "deep", IDENTITY) as store:
        assert (store.latest_step, store.best_step) == (None, None)
        assert store.restore_or(state) is state


def test_the_latest_and_the_best_are_kept(tmp_path, state):
    states, scores = [at(state, n) for n in range(1, 6)], (0.1, 0.9, 0.8, 0.3, 0.2)
    save(tmp_path, *states, scores=scores)
    assert steps_on_disk(tmp_path) == [2, 5]
    with CheckpointStore(tmp_path, IDENTITY) as store:
        assert (store.latest_step, store.best_step) == (5, 2)
        assert_identical(store.restore_or(zeros_like(state)), states[4])
        assert_identical(store.restore_or(zeros_like(state), step=2), states[1])


def test_a_checkpoint_without_score_is_only_ever_the_latest(tmp_path, state):
    save(tmp_path, at(state, 1), at(state, 2), scores=(0.5, 0.4))
    save(tmp_path, at(state, 3))
    assert steps_on_disk(tmp_path) == [1, 3]
    save(tmp_path, at(state, 4))
    assert steps_on_disk(tmp_path) == [1, 4]
    with CheckpointStore(tmp_path, IDENTITY) as store:
        assert (store.latest_step, store.best_step) == (4, 1)


def test_saving_a_step_twice_keeps_the_first(tmp_path, state):
    first, again = at(state, 3), zeros_like(state).replace(step=np.array(3, np.int32))
    save(tmp_path, first, again)
    save(tmp_path, again)
    with CheckpointStore(tmp_path, IDENTITY) as store:
        assert_identical(store.restore_or(zeros_like(state)), first)


def test_an_interrupted_save_is_ignored(tmp_path, state):
    save(tmp_path, at(state, 3))
    # A save that a crash cut off: Orbax renames the directory when everything is in it.
    partial = tmp_path / "5.orbax-checkpoint-tmp" / "state.orbax-checkpoint-tmp"
    partial.mkdir(parents=True)
    (partial / "manifest.ocdbt").write_bytes(b"half")
    with CheckpointStore(tmp_path, IDENTITY) as store:
        assert store.latest_step == 3
        assert_identical(store.restore_or(zeros_like(state)), at(state, 3))
        store.save(at(state, 4))
    assert 4 in steps_on_disk(tmp_path) and not partial.exists()


def test_another_experiment_is_refused_and_nothing_changes(tmp_path, state):
    save(tmp_path, at(state, 3))
    before = snapshot(tmp_path)
    other = IDENTITY | {
        "seed": 1,
        "method": {"name": "tras", "B": 2.0},
        "data": {"class_names": ("cat", "cow"), "image_shape": [8, 8, 1]},
    }
    with CheckpointStore(tmp_path, other) as store, pytest.raises(InputError) as error:
        store.restore_or(state)
    assert str(error.value).splitlines()[1:] == [
        "  data.class_names: checkpoint ['cat', 'dog'], this run ['cat', 'cow']",
        "  method.A: checkpoint 2.0, this run nothing",
        "  method.B: checkpoint nothing, this run 2.0",
        "  seed: checkpoint 0, this run 1",
    ]
    assert str(tmp_path) in str(error.value) and "--workdir" in str(error.value)
    assert snapshot(tmp_path) == before


def test_versions_may_differ(tmp_path, state):
    save(tmp_path, at(state, 3))
    newer = IDENTITY | {"versions": {"jax": "0.12.0", "flax": "1"}}
    with CheckpointStore(tmp_path, newer) as store:
        assert_identical(store.restore_or(zeros_like(state)), at(state, 3))


@pytest.mark.parametrize("field", ["params", "opt_state", "method_state"])
def test_other_dtypes_are_refused(tmp_path, state, field):
    save(tmp_path, at(state, 3))
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), getattr(state, field))
    message = f"checkpoint 3 holds {field}.* as .*32, this run has bfloat16"
    with CheckpointStore(tmp_path, IDENTITY) as store, pytest.raises(InputError, match=message):
        store.restore_or(state.replace(**{field: half}))


def test_a_run_goes_on_with_other_devices(tmp_path):
    """Two steps, a checkpoint, one step elsewhere: the same as three steps here."""
    states, _ = toy.train(3, mode="jit", num_devices=1)
    save(tmp_path, states[2])
    runner, start, step = toy.trainer(mode="pmap", num_devices=8)
    with CheckpointStore(tmp_path, IDENTITY) as store:
        restored = runner.replicate(store.restore_or(start))
    assert_identical(jax.device_get(restored), jax.device_get(states[2]))
    resumed, _ = step(restored, runner.shard(toy.batch(seed=2)), Resident())
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        jax.device_get(resumed),
        jax.device_get(states[3]),
    )


def test_a_single_process_is_never_preempted_by_orbax(tmp_path):
    with CheckpointStore(tmp_path, IDENTITY) as store:
        assert store.is_preempted() is False
