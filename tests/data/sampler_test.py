from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.data import sampler


def make(size=10, batch_size=4, seed=0, stream="labeled", drop_last=False):
    return sampler.indices(size, batch_size, seed=seed, stream=stream, drop_last=drop_last)


def sequence(batches, steps):
    return np.concatenate([batches(step) for step in range(steps)])


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (10, 5), (7, 16), (1, 3), (12, 1)])
def test_each_example_once_an_epoch(size, batch_size):
    seen = sequence(make(size, batch_size), 5 * size)
    assert seen.dtype == np.int64 and len(seen) == 5 * size * batch_size
    for epoch in seen.reshape(-1, size):
        assert sorted(epoch) == list(range(size))


def test_drop_last_reshuffles_after_the_last_full_batch():
    batches = make(11, 4, drop_last=True)
    epochs = sequence(batches, 200).reshape(100, 8)
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert set(epochs.ravel()) == set(range(11))  # another rest is left out each time
    np.testing.assert_array_equal(batches(0), make(11, 4)(0))


def test_any_step_can_be_asked_for_in_any_order():
    forward = sequence(make(), 50).reshape(50, 4)
    batches = make()
    for step in (49, 3, 0, 17, 2, 48):
        np.testing.assert_array_equal(batches(step), forward[step])
    assert batches(10**12).shape == (4,)


def test_epochs_seeds_and_streams_are_ordered_differently():
    orders = {
        tuple(make(100, 100, seed=seed, stream=stream)(epoch))
        for seed in (0, 1)
        for stream in ("labeled", "unlabeled")
        for epoch in (0, 1)
    }
    assert len(orders) == 8


def test_every_place_is_equally_likely():
    # First example of 4,000 epochs of 10: a count's standard deviation is 19.
    batches = make(10, 10)
    first = np.bincount([batches(epoch)[0] for epoch in range(4000)], minlength=10)
    assert np.abs(first - 400).max() < 80


def test_order_is_the_same_for_ever():
    # Another order would silently change what a resumed run sees.
    assert sequence(make(seed=3), 3).tolist() == [9, 5, 4, 6, 2, 7, 1, 8, 0, 3, 1, 7]


def test_threads_agree():
    batches, expected = make(1000, 8), sequence(make(1000, 8), 400).reshape(400, 8)
    with ThreadPoolExecutor(8) as pool:
        result = list(pool.map(batches, range(400)))
    np.testing.assert_array_equal(result, expected)


def test_a_batch_can_be_changed_without_harm():
    batches = make()
    batches(0)[:] = 99
    assert 99 not in batches(0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(size=0), "size of the labeled stream is 0"),
        (dict(batch_size=0), "batch_size of the labeled stream is 0"),
        (dict(seed=-1), "seed of the labeled stream is -1"),
        (dict(size=3, drop_last=True), "3 images, fewer than one batch of 4.*data.drop_last=False"),
    ],
)
def test_bad_values_are_named(changes, words):
    with pytest.raises(InputError, match=words):
        make(**changes)


def test_the_next_epoch_is_shuffled_before_it_is_asked_for(monkeypatch):
    epochs, shuffle = [], sampler._permutation

    def remembered(size, entropy):
        epochs.append(entropy[-1])
        return shuffle(size, entropy)

    monkeypatch.setattr(sampler, "_permutation", remembered)
    batches = make()
    for step, begun in (
        (0, [0, 1]),
        (1, [0, 1]),
        (2, [0, 1, 2]),
        (4, [0, 1, 2]),
        (5, [0, 1, 2, 3]),
    ):
        batches(step)
        sampler._SHUFFLER.submit(lambda: None).result()  # after everything submitted before
        assert epochs == begun


# --- drawn class by class -------------------------------------------------------------------------

TAIL = np.array([2] * 60 + [0] * 3 + [4] * 12)  # no class 1 or 3


def test_balanced_draws_every_class_and_every_image_of_it_equally_often():
    batches = sampler.balanced(TAIL, 30, seed=0, stream="balanced")
    drawn = np.concatenate([batches(step) for step in range(1000)])
    assert drawn.dtype == np.int64
    share = np.bincount(TAIL[drawn], minlength=5) / len(drawn)
    np.testing.assert_allclose(share, [1 / 3, 0, 1 / 3, 0, 1 / 3], atol=0.015)
    for k in (0, 2, 4):
        each = np.bincount(drawn, minlength=len(TAIL))[TAIL == k]
        np.testing.assert_allclose(each / each.mean(), 1, atol=0.35)


def test_balanced_is_a_function_of_seed_stream_and_step():
    batches = sampler.balanced(TAIL, 30, seed=0, stream="balanced")
    np.testing.assert_array_equal(batches(7), batches(7))
    others = [
        batches(8),
        sampler.balanced(TAIL, 30, seed=1, stream="balanced")(7),
        sampler.balanced(TAIL, 30, seed=0, stream="labeled")(7),
    ]
    assert all(not np.array_equal(batches(7), other) for other in others)
