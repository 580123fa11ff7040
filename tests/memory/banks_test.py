"""The bank of confident features against one that is filled row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax.memory import banks
from ltssl_jax.training.forward import AxisDevices

K, M, D, R = 3, 4, 2, 16
ALONE = AxisDevices(None)


class RowByRow:
    """The definition: a row replaces the least confident of its class if it is more confident."""

    def __init__(self):
        self.features, self.confidence = np.zeros((K, M, D)), np.zeros((K, M))
        self.is_new = np.zeros((K, M), bool)

    def push(self, features, labels, confidence, mask):
        for f, k, c, is_in in zip(features, labels, confidence, mask, strict=True):
            if is_in and c > self.confidence[k, -1]:
                self.features[k, -1], self.confidence[k, -1], self.is_new[k, -1] = f, c, True
                self.sort(k)

    def age(self, decay):
        self.confidence = np.where(self.is_new, self.confidence, decay * self.confidence)
        self.is_new[:] = False
        for k in range(K):
            self.sort(k)

    def sort(self, k):
        order = np.argsort(-self.confidence[k], kind="stable")
        for array in (self.features, self.confidence, self.is_new):
            array[k] = array[k][order]


def rows(seed):
    """Rows with equal confidences among them, which is the rule: two views share theirs."""
    rng = np.random.default_rng(seed)
    labels, mask = rng.integers(K, size=R), rng.random(R) < 0.7
    confidence = rng.choice([0.9, 0.95, 0.96, 1.0], R)
    return [
        np.float32(rng.normal(size=(R, D))),
        labels,
        np.float32(confidence),
        mask.astype(np.float32),
    ]


class AsReleased(RowByRow):
    """A row takes the last slot, but it is the features of the first one that leave."""

    def push(self, features, labels, confidence, mask):
        for f, k, c, is_in in zip(features, labels, confidence, mask, strict=True):
            if is_in and c > self.confidence[k, -1]:
                self.features[k] = [*self.features[k, 1:], f]
                self.confidence[k, -1], self.is_new[k, -1] = c, True
                self.sort(k)


def push_on(num_devices, bank, arrays, pushed=banks.pushed):
    if num_devices == 1:
        return pushed(bank, *map(jnp.asarray, arrays), ALONE)
    shards = [a.reshape(num_devices, -1, *a.shape[1:]) for a in arrays]
    step = jax.vmap(lambda *x: pushed(bank, *x, AxisDevices("d")), axis_name="d")
    return jax.tree.map(lambda x: x[-1], step(*shards))


@pytest.mark.parametrize("num_devices", [1, 4])
def test_it_is_as_if_filled_row_by_row(num_devices):
    bank, expected = banks.empty_bank(K, M, D), RowByRow()
    for n in range(5):
        bank = push_on(num_devices, bank, rows(n))
        expected.push(*rows(n))
        bank = banks.aged(bank, jnp.asarray(n % 2 == 1), decay=0.97)
        if n % 2 == 1:
            expected.age(0.97)
        for name in ("features", "confidence", "is_new"):
            np.testing.assert_allclose(bank[name], getattr(expected, name), rtol=1e-6)
    assert not expected.is_new.all() and expected.is_new.any()


def test_a_full_bank_loses_the_least_confident():
    """Released code loses the features of the most confident one instead."""
    bank = banks.empty_bank(1, 2, 1)
    for feature, confidence in [(1.0, 0.99), (2.0, 0.96), (3.0, 0.97)]:
        row = jnp.array([[feature]]), jnp.array([0]), jnp.array([confidence]), jnp.ones(1)
        bank = banks.pushed(bank, *row, ALONE)
    assert bank["features"].ravel().tolist() == [1.0, 3.0]
    np.testing.assert_allclose(bank["confidence"], [[0.99, 0.97]])


@pytest.mark.parametrize("num_devices", [1, 4])
def test_as_released_the_first_features_leave_whoever_enters(num_devices):
    """Golden steps of SeMi seldom meet a full class; these meet little else."""
    bank, expected = banks.empty_bank(K, M, D), AsReleased()
    for n in range(5):
        bank = push_on(num_devices, bank, rows(n), banks.pushed_as_released)
        expected.push(*rows(n))
        bank = banks.aged(bank, jnp.asarray(n % 2 == 1), decay=0.97)
        if n % 2 == 1:
            expected.age(0.97)
        for name in ("features", "confidence", "is_new"):
            np.testing.assert_allclose(bank[name], getattr(expected, name), rtol=1e-6)


def test_as_released_even_a_bank_with_room_loses_its_best():
    bank = banks.empty_bank(1, 3, 1)
    for feature, confidence in [(1.0, 0.99), (2.0, 0.96)]:
        row = jnp.array([[feature]]), jnp.array([0]), jnp.array([confidence]), jnp.ones(1)
        bank = banks.pushed_as_released(bank, *row, ALONE)
    assert bank["features"].ravel().tolist() == [0.0, 2.0, 0.0]
    np.testing.assert_allclose(bank["confidence"], [[0.99, 0.96, 0.0]])


def test_only_old_entries_age():
    bank = banks.empty_bank(1, 2, 1)
    old = jnp.array([[1.0]]), jnp.array([0]), jnp.array([0.98]), jnp.ones(1)
    bank = banks.aged(banks.pushed(bank, *old, ALONE), True, decay=0.5)
    assert float(bank["confidence"][0, 0]) == pytest.approx(0.98)  # it was new
    new = jnp.array([[2.0]]), jnp.array([0]), jnp.array([0.96]), jnp.ones(1)
    bank = banks.aged(banks.pushed(bank, *new, ALONE), True, decay=0.5)
    np.testing.assert_allclose(bank["confidence"], [[0.96, 0.49]])
    assert bank["features"].ravel().tolist() == [2.0, 1.0]


def test_prototypes_are_means_over_all_slots():
    bank = banks.empty_bank(2, 4, 2)
    arrays = jnp.array([[2.0, 4.0], [6.0, 0.0]]), jnp.array([1, 1]), jnp.ones(2), jnp.ones(2)
    bank = banks.pushed(bank, *arrays, ALONE)
    np.testing.assert_allclose(banks.prototypes(bank), [[0, 0], [2, 1]])


def test_no_gradient_flows_into_it():
    features, labels, confidence, mask = map(jnp.asarray, rows(0))

    def total(features, confidence):
        bank = banks.pushed(banks.empty_bank(K, M, D), features, labels, confidence, mask, ALONE)
        return sum(jnp.sum(x) for x in (bank["features"], bank["confidence"]))

    for gradient in jax.grad(total, (0, 1))(features, confidence):
        assert not np.any(gradient)
