"""A directory belongs to one sweep, which may grow."""

import json

import pytest

from ltssl_jax.core import InputError
from ltssl_jax.sweeping import grid, record

CONFIG = "--config=configs/tras_digits.py"
AXIS = "--config.method.threshold=0.9,0.95"


def ask(root, *arguments, seeds=(0,)):
    """Does what the command does with its record."""
    known = record.read(root)
    what = grid.asked([CONFIG, *arguments], known.get("axes", ()))
    stated = record.joined(known, what, list(grid.trials(what, seeds, root)), root)
    (root / record.FILE).write_text(json.dumps(stated))
    return [one["directory"] for one in stated["runs"]]


def test_more_seeds_and_values_are_added_in_the_order_in_which_they_are_asked(tmp_path):
    assert ask(tmp_path, AXIS) == ["threshold=0.9/0", "threshold=0.95/0"]
    assert ask(tmp_path, "--config.method.threshold=0.5", seeds=(1,)) == [
        "threshold=0.9/0",
        "threshold=0.95/0",
        "threshold=0.5/1",
    ]
    assert len(ask(tmp_path, AXIS)) == 3  # asked again, not added again


def test_the_order_of_several_axes_is_that_of_the_first_command(tmp_path):
    other = "--config.train.mu=1,2"
    first = ask(tmp_path, AXIS, other)
    assert ask(tmp_path, other, AXIS) == first and "threshold=0.9,mu=1/0" in first


@pytest.mark.parametrize(
    "arguments",
    [
        (AXIS, "--config.train.log_every=7"),
        (AXIS, "--config.baseline=True"),
        (AXIS, "--config.parallel.num_devices=1"),
    ],
)
def test_what_does_not_change_the_outcome_may_differ(tmp_path, arguments):
    ask(tmp_path, AXIS)
    assert len(ask(tmp_path, *arguments)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((AXIS, "--config.train.steps=7"), "train.steps: then 1500, now 7"),
        ((), "over method.threshold, and this one is over seeds alone"),
        ((AXIS, "--config.train.mu=1,2"), "this one is over method.threshold, train.mu"),
    ],
)
def test_another_sweep_is_refused(tmp_path, arguments, said):
    ask(tmp_path, AXIS)
    with pytest.raises(InputError, match=said):
        ask(tmp_path, *arguments)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"axes": null, "config": {}, "runs": []}'])
def test_a_damaged_record_is_said(tmp_path, text):
    (tmp_path / record.FILE).write_text(text)
    with pytest.raises(InputError, match="sweep.json cannot be read.*delete it"):
        record.read(tmp_path)
