"""Work on the whole pool between the steps of a run: what a method is told, and when."""

import numpy as np
import pytest

from ltssl_jax import experiment, trained
from ltssl_jax.core import InputError
from tests import small

N_U = 1096


def config(**changes):
    made = small.config({"train.steps": 8, "train.eval_batch_size": 120} | changes)
    made.method = dict(name="tests.methods.pooling")
    return made


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_every_image_of_the_pool_is_answered_once_in_order(mode, tmp_path):
    """Eight devices, batches that do not divide the pool, the averaged network of that step."""
    made = config(**{"parallel.mode": mode, "train.steps": 6, "train.checkpoint_every": 6})
    experiment.train(made, tmp_path, is_quiet=True)
    network, run = trained.load(tmp_path, "latest"), experiment.plan(made)
    told = network.state.method_state
    assert told["steps"].tolist() == [3, 6, 0, 0]
    images = run.source.train.read(run.split.unlabeled)
    assert told["answers"].shape == (N_U, 10)
    np.testing.assert_allclose(told["answers"], network.logits(images), rtol=1e-4, atol=1e-5)
    seconds = [r for r in small.records(tmp_path, "train") if "refresh_seconds" in r]
    assert seconds and all(0 < r["refresh_share"] < 1 for r in seconds)


def test_a_continued_run_is_told_the_same(tmp_path):
    states = []
    for name, lengths in (("whole", [8]), ("parts", [4, 8])):
        for steps in lengths:
            experiment.train(config(**{"train.steps": steps}), tmp_path / name, is_quiet=True)
        states.append(trained.load(tmp_path / name, "latest").state.method_state)
    for key in states[0]:
        np.testing.assert_array_equal(states[0][key], states[1][key])


def test_steps_at_once_divide_what_lies_between():
    with pytest.raises(InputError, match="must be a divisor of the method's steps between two"):
        made = config(**{"parallel.steps_at_once": 4, "train.log_every": 4})
        experiment.steps_at_once(experiment.plan(made), "resident")
