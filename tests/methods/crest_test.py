"""CReST: steps of the authors' own code (google-research/crest, e270139), and its idea.

Which images get labels after a generation is tested in `tests/data/growth_test.py`.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import core, defaults, methods, setups, stages
from tests.methods.golden import Golden, assert_gradients_equal

BASE = dict(name="fixmatch")


@pytest.fixture(scope="module")
def golden():
    return Golden("crest")


def softmax(z):
    e = np.exp(z - np.max(z, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def generation(golden, number, **changes):
    """The method of the golden run in one of its generations."""
    settings = dict(
        num_generations=int(golden["hyper/generations"]),
        min_exponent=float(golden["hyper/minimum_exponent"]),
        window=int(golden["hyper/buffer"]),
        base=dict(BASE, threshold=float(golden["hyper/threshold"])),
    )
    return methods.make("crest", generation=number, **settings | changes)


def oldest_first(window):
    return np.roll(window["values"], -int(window["position"]), axis=0)


def test_steps_of_all_generations_are_the_authors(golden):
    """State starts anew in each; in between the window wraps around."""
    length, num_changed = int(golden["hyper/steps_per_generation"]), 0
    for n in golden.steps:
        method = generation(golden, n // length)
        if n % length == 0:
            state = method.init(golden.problem())
        weak = golden[f"step{n}/view/weak/logits/base"]
        aligned = method.aligned(state, jnp.asarray(weak))
        np.testing.assert_allclose(softmax(aligned), golden[f"step{n}/target/aligned"], atol=2e-6)
        num_changed += np.any(np.argmax(aligned, 1) != np.argmax(weak, 1))

        loss, contributions, gradient = golden.replay(method, n, state)
        for name in ("supervised", "consistency"):
            expected = golden[f"step{n}/term/{name}"]
            np.testing.assert_allclose(contributions[name], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(
            loss.monitors["mask/base"].mask, golden[f"step{n}/mask/confident"]
        )
        assert_gradients_equal(golden, n, gradient)
        assert not np.any(gradient["weak"].logits["base"])
        state = loss.state
        np.testing.assert_allclose(
            oldest_first(state["guessed"]), golden[f"step{n}/state/model_buffer"], atol=1e-6
        )
    assert num_changed > 5


def test_what_the_network_says_too_often_becomes_rarer(golden):
    """It says one thing of everything: aligned, the guesses are the prior of the labels."""
    method = generation(golden, 0)
    state = method.init(golden.problem())
    says = jnp.log(jnp.asarray([0.05, 0.05, 0.8, 0.05, 0.05]))
    state["guessed"]["values"] = jnp.tile(jnp.exp(says)[None, :], (4, 1))
    counts = golden["labeled_counts"]
    aligned = softmax(method.aligned(state, says[None, :]))
    np.testing.assert_allclose(aligned[0], counts / counts.sum(), atol=1e-4)


def test_the_prior_flattens_from_generation_to_generation(golden):
    counts = golden["labeled_counts"]
    for number, exponent in enumerate([1.0, 0.75, 0.5]):
        expected = counts**exponent / np.sum(counts**exponent)
        state = generation(golden, number).init(golden.problem())
        np.testing.assert_allclose(state["target_prior"], expected, rtol=1e-5)
    alone = methods.make("crest", generation=0, num_generations=1).init(golden.problem())
    np.testing.assert_allclose(alone["target_prior"], counts / counts.sum(), rtol=1e-5)


def test_pseudo_labels_do_not_move_the_prior(golden):
    counts = golden["labeled_counts"]
    grown = golden.problem()._replace(labeled_counts=counts + 50, given_counts=counts)
    prior = generation(golden, 0).init(grown)["target_prior"]
    np.testing.assert_allclose(prior, counts / counts.sum(), rtol=1e-5)


def test_without_alignment_the_base_is_left_as_it_is(golden):
    method = generation(golden, 1, is_aligned=False)
    base = methods.make(**dict(BASE, threshold=float(golden["hyper/threshold"])))
    ours, contributions, _ = golden.replay(method, 2, method.init(golden.problem()))
    theirs, expected, _ = golden.replay(base, 2, base.init(golden.problem()))
    np.testing.assert_array_equal(
        ours.monitors["mask/base"].mask, theirs.monitors["mask/base"].mask
    )
    np.testing.assert_array_equal(contributions["consistency"], expected["consistency"])


def test_a_generation_knows_how_many_came_before_it():
    """Stages of another method are none, whatever the names."""
    config = setups.digits()
    config.method = defaults.method("crest", num_generations=3)
    config.stages.order = ("pretrain", "first", "grow", "grow")
    config.stages.pretrain = defaults.stage(method=defaults.method("supervised"))
    config.stages.first = defaults.stage()
    config.stages.grow = defaults.stage(growth=dict(rule="by_rarity", alpha=2.0))
    made = [stages.staged(config, number).method for number in range(4)]
    assert "generation" not in made[0]
    assert [method.generation for method in made[1:]] == [0, 1, 2]


def test_a_generation_is_counted_inside_another_method_too():
    """And a stage in which it is not inside is none."""
    config = generations(3)
    config.method = defaults.method("abc", base=dict(name="crest", num_generations=2))
    config.stages.base = defaults.stage(method=defaults.method("abc"))
    bases = [stages.staged(config, number).method.base for number in range(3)]
    assert [base.get("generation") for base in bases] == [None, 0, 1]


@pytest.mark.parametrize("number", [2, 6])
def test_another_number_of_generations_than_of_stages_is_refused(number):
    """Otherwise the last generation would align to a prior that is not flat enough, or fail."""
    config = generations(3)
    config.method = defaults.method("crest", num_generations=number)
    said = f"num_generations of 'crest' is {number}; it must be 3, as many as there are stages of"
    with pytest.raises(core.InputError, match=said):
        stages.check(config)


def generations(number):
    config = setups.digits()
    config.stages.order = ("base", *["grow"] * (number - 1))
    config.stages.base = defaults.stage()
    config.stages.grow = defaults.stage(growth=dict(rule="by_rarity", alpha=2.0))
    return config


@pytest.mark.parametrize(
    "field, value",
    [
        ("generation", 6),
        ("generation", -1),
        ("num_generations", 0),
        ("window", 0),
        ("min_exponent", -0.1),
    ],
)
def test_values_that_cannot_be_are_refused(field, value):
    with pytest.raises(core.InputError, match=f"method.{field} is {value}; it must be"):
        methods.make("crest", **{field: value})


def test_a_base_without_guesses_is_refused():
    with pytest.raises(core.InputError, match="'crest' cannot wrap TRAS"):
        methods.make("crest", base=dict(name="tras"))


def test_guesses_are_not_aligned_twice():
    with pytest.raises(core.InputError, match="method.base.alignment is 'labeled'; it must be"):
        methods.make("crest", base=dict(name="remixmatch"))
    methods.make("crest", base=dict(name="remixmatch", alignment="none"))
    methods.make("crest", is_aligned=False, base=dict(name="remixmatch"))
