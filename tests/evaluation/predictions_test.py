import dataclasses

import numpy as np
import pytest

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import predictions
from ltssl_jax.evaluation.predictions import Predictions

RNG = np.random.default_rng(0)


def some(number=7, num_classes=3):
    return Predictions(
        logits=RNG.normal(size=(number, num_classes)).astype(np.float32),
        labels=RNG.integers(0, num_classes, number).astype(np.int32),
        names=np.array([f"bild/{i}.jpg" for i in range(number)]),
        shown=np.array([4, 2]),
        images=RNG.integers(0, 256, (2, 5, 5, 3), np.uint8),
    )


def save(directory, sets):
    np.savez_compressed(directory / predictions.FILE, **predictions.arrays(sets))


def test_sets_are_read_as_they_were_written(tmp_path):
    sets = {"validation": some(), "test": some(5)}
    save(tmp_path, sets)
    found = predictions.read(tmp_path)
    assert list(found) == ["validation", "test"]
    for name, one in sets.items():
        for key, value in vars(one).items():
            np.testing.assert_array_equal(getattr(found[name], key), value)
            assert getattr(found[name], key).dtype == value.dtype


def test_many_logits_are_kept_in_half_precision(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "_HALF_BEYOND", 50)
    small, large = some(4), some(5)
    made = predictions.arrays({"small": small, "large": large})
    assert made["small/logits"].dtype == np.float32 and made["large/logits"].dtype == np.float16
    save(tmp_path, {"large": large})
    found = predictions.read(tmp_path)["large"].logits
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, large.logits, rtol=1e-3)


def test_half_precision_changes_no_predicted_class(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "_HALF_BEYOND", 0)
    one = dataclasses.replace(some(1), logits=np.float32([[8.0, 8.0001, 0.0]]), classes=None)
    assert one.classes.tolist() == [1]
    save(tmp_path, {"test": one})
    found = predictions.read(tmp_path)["test"]
    assert found.classes.tolist() == [1] and np.argmax(found.logits, axis=1).tolist() == [0]


def test_files_without_predicted_classes_are_read(tmp_path):
    one, made = some(), predictions.arrays({"test": some()})
    made = {k: v for k, v in made.items() if k != "test/classes"} | {"test/logits": one.logits}
    np.savez(tmp_path / predictions.FILE, **made)
    found = predictions.read(tmp_path)["test"]
    np.testing.assert_array_equal(found.classes, np.argmax(one.logits, axis=1))


def test_without_a_file_there_is_nothing_and_a_damaged_one_is_named(tmp_path):
    assert predictions.read(tmp_path) == {}
    (tmp_path / predictions.FILE).write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"predictions\.npz cannot be read"):
        predictions.read(tmp_path)


def test_the_most_confident_mistakes_come_first_and_unknown_classes_are_none():
    logits = np.array([[9, 0, 0], [0, 3, 0], [0, 5, 0], [0, 0, 8], [2, 0, 0.0]])
    labels = np.array([0, 0, 2, -1, 1])
    assert predictions.confident_mistakes(logits, labels, 9).tolist() == [2, 1, 4]
    assert predictions.confident_mistakes(logits, labels, 2).tolist() == [2, 1]


@pytest.mark.parametrize("number, most", [(10, 4), (4, 10), (1, 3), (0, 3), (100_000, 2048)])
def test_positions_at_even_distances(number, most):
    found = predictions.evenly(number, most)
    assert len(found) == min(number, most) == len(set(found.tolist()))
    if len(found) > 1:
        assert found[0] == 0 and found[-1] == number - 1
        assert np.ptp(np.diff(found)) <= 1
