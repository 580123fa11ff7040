"""FixMatch against steps of kekmodel/FixMatch-pytorch (040be3b) and of USB, which agree in all."""

import numpy as np
import pytest

from ltssl_jax.methods.fixmatch import FixMatch
from tests.methods.golden import Golden, assert_gradients_equal


@pytest.fixture(scope="module")
def golden():
    return Golden("fixmatch")


@pytest.mark.parametrize("mode", ["joint", "separate"])
def test_steps_are_the_authors(golden, mode):
    method = FixMatch(
        float(golden["hyper/threshold"]), float(golden["hyper/lambda_u"]), forward_mode=mode
    )
    state = method.init(golden.problem())
    for n in golden.steps:
        loss, contributions, gradient = golden.replay(method, n, state)
        for ours, theirs in {"supervised": "labeled", "consistency": "unlabeled"}.items():
            expected = golden[f"step{n}/term/{theirs}"]
            np.testing.assert_allclose(contributions[ours], expected, rtol=1e-5, err_msg=ours)
        np.testing.assert_array_equal(loss.monitors["mask/base"].mask, golden[f"step{n}/mask/base"])
        assert_gradients_equal(golden, n, gradient)
        assert not np.any(gradient["weak"].logits["base"])


def test_rejected_rows_are_zeros_of_the_mean_and_the_steps_hold_some(golden):
    masks = np.array([golden[f"step{n}/mask/base"] for n in golden.steps])
    assert np.all(masks.sum(axis=1) > 0) and np.all(masks.sum(axis=1) < masks.shape[1])
    method = FixMatch()
    loss, contributions, _ = golden.replay(method, 0, method.init(golden.problem()))
    values = loss.terms["consistency"].values
    assert values.shape == (1, masks.shape[1])
    assert np.array_equal(values[0] != 0, masks[0] != 0)
    np.testing.assert_allclose(contributions["consistency"], np.sum(values) / masks.shape[1])
