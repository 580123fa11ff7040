"""What is counted of pseudo-labels, and that nothing trained knows of it."""

import jax
import numpy as np
import pytest

from ltssl_jax import core
from ltssl_jax.training.audit import audited
from tests import toy

U, K = 40, 5


@pytest.fixture
def kept():
    rng = np.random.default_rng(0)
    labels = rng.integers(K - 1, size=U).astype(np.int32)  # one class is never guessed
    return core.Kept(labels, rng.random(U).astype(np.float32) * (rng.random(U) < 0.7))


def test_counts_are_sums_of_masks_by_class(kept):
    truth = np.where(np.arange(U) % 2, kept.labels, (kept.labels + 1) % K)
    found = audited({"mask/base": kept, "blend": kept.mask}, truth, K)
    assert set(found) == {"pseudo/seen", "pseudo/true", "pseudo/base/kept", "pseudo/base/correct"}
    assert found["pseudo/seen"] == U
    np.testing.assert_array_equal(found["pseudo/true"], np.bincount(truth, minlength=K))
    for name, rows in (("kept", kept.labels >= 0), ("correct", kept.labels == truth)):
        expected = np.bincount(kept.labels, weights=kept.mask * rows, minlength=K)
        np.testing.assert_allclose(found[f"pseudo/base/{name}"], expected, rtol=1e-6)


def test_without_truth_nothing_is_called_right(kept):
    assert set(audited({"mask/base": kept}, None, K)) == {"pseudo/seen", "pseudo/base/kept"}


def test_without_pseudo_labels_there_is_nothing_to_count(kept):
    assert audited({"blend": kept.mask}, kept.labels, K) == {}


# --- inside the step ------------------------------------------------------------------------------


def one_step(truth, **how):
    runner, state, step = toy.trainer(**how)
    return jax.device_get(step(state, runner.shard(toy.batch()), core.Resident(truth=truth)))


@pytest.mark.parametrize("mode", ["pmap", "shard_map", "jit"])
def test_the_counts_are_those_of_all_devices(mode):
    truth = toy.RESIDENT.truth
    metrics = one_step(truth, mode=mode, num_devices=4)[1]
    expected = one_step(truth)[1]
    assert expected["pseudo/seen"] == len(truth) and expected["pseudo/base/kept"].sum() > 0
    for name in (name for name in expected if name.startswith("pseudo/")):
        np.testing.assert_array_equal(metrics[name], expected[name], err_msg=name)
    share = metrics["pseudo/base/kept"].sum() / len(truth)
    np.testing.assert_allclose(share, metrics["monitor/mask/base"], rtol=1e-6)


def test_the_truth_is_read_by_the_rows_of_the_pool():
    """The images of the batch are the rows 0, 2, 4, … of a pool."""
    runner, state, step = toy.trainer()
    rows = toy.batch()
    rows = rows.replace(unlabeled=rows.unlabeled.replace(index=2 * rows.unlabeled.index))
    truth = np.repeat(np.arange(4, dtype=np.int32) % 3, 8)
    metrics = step(state, runner.shard(rows), core.Resident(truth=truth))[1]
    np.testing.assert_array_equal(metrics["pseudo/true"], np.bincount(truth[::2], minlength=3))


def test_another_truth_changes_no_weight_and_no_loss():
    truth = toy.RESIDENT.truth
    state, metrics = one_step(truth)
    other_state, other_metrics = one_step((truth + 1) % toy.NUM_CLASSES)
    jax.tree.map(np.testing.assert_array_equal, state, other_state)
    different = [n for n in metrics if not np.array_equal(metrics[n], other_metrics[n])]
    assert sorted(different) == ["pseudo/base/correct", "pseudo/true"]


def test_neither_views_nor_method_receive_it(monkeypatch):
    seen = []

    def views(self, raw, resident, key, step):
        seen.append(resident)
        return raw

    monkeypatch.setattr(toy.GivenViews, "__call__", views)
    one_step(toy.RESIDENT.truth)
    assert seen == [core.Resident()]
