"""Alarms: loud where something is wrong, silent where nothing is."""

import numpy as np
import pytest

from ltssl_jax.monitoring.alarms import Alarms, Facts, effective_classes, unrecognized

K = 10
RATIO_100 = 100.0 ** -(np.arange(K) / (K - 1))
FACTS = Facts([f"c{k}" for k in range(K)], np.round(500 * RATIO_100).astype(int), 1000)
ONE_CLASS = np.eye(K)[0]


def line(step, kept=RATIO_100, *, coverage=0.5, true=None, **others):
    """A log of 64 unlabeled images a step, of which a share is kept, with these classes."""
    counts = 64 * coverage * kept / np.sum(kept)
    made = {"step": step, "pseudo/seen": 64.0, "pseudo/base/kept": counts.tolist()}
    made |= {"monitor/mask/base": coverage, "loss/supervised": 1.0, "input_share": 0.0}
    return made | ({} if true is None else {"pseudo/true": (64 * true).tolist()}) | others


def said(lines, facts=FACTS):
    """Names of the alarms by the step at which they are said."""
    alarms = Alarms(facts)
    return [(made["step"], alarm.name) for made in lines for alarm in alarms.heard(made)]


def after_the_beginning(number, **how):
    return [line(step, **how) for step in range(150, 150 + 10 * number, 10)]


@pytest.mark.parametrize("kept", [ONE_CLASS, np.where(np.arange(K) < 2, [9.0, 1.0] * 5, 0.0)])
def test_few_classes_are_a_collapse_that_is_said_once(kept):
    assert said(after_the_beginning(40, kept=kept)) == [(190, "collapse/base")]


def test_the_text_names_the_classes_and_what_is_expected():
    alarms = Alarms(FACTS)
    (alarm,) = [a for made in after_the_beginning(5, kept=ONE_CLASS) for a in alarms.heard(made)]
    assert "100% of those kept are 'c0'" in alarm.text
    assert "as varied as 1.0 equally frequent classes" in alarm.text
    assert "the labeled images would give 5.2" in alarm.text


def test_long_tails_are_no_collapse():
    assert said(after_the_beginning(40)) == []


def test_the_pool_decides_where_it_is_known():
    two = np.array([0.9, 0.1] + [0.0] * 8)
    assert said(after_the_beginning(9, kept=two)) == [(190, "collapse/base")]
    assert said(after_the_beginning(9, kept=two, true=two)) == []
    uniform = np.full(K, 1 / K)
    three = np.array([0.7, 0.2, 0.1] + [0.0] * 7)
    assert said(after_the_beginning(9, kept=three)) == []  # as labels of ratio 100 would have it
    assert said(after_the_beginning(9, kept=three, true=uniform)) == [(190, "collapse/base")]


@pytest.mark.parametrize("lost", ["pseudo/", "pseudo/true"])
def test_a_run_that_was_begun_before_a_number_was_logged_goes_on(lost):
    lines = after_the_beginning(9, kept=ONE_CLASS, true=np.full(K, 1 / K))
    for n in range(3):
        lines[n] = {name: x for name, x in lines[n].items() if not name.startswith(lost)}
    whens = {"pseudo/": 220, "pseudo/true": 190}  # without truth the labels say what to expect
    assert said(lines) == [(whens[lost], "collapse/base")]


def test_the_first_pseudo_labels_are_of_easy_classes():
    early = [line(step, ONE_CLASS) for step in range(10, 101, 10)]
    assert said(early) == []
    waiting = FACTS._replace(warmup_steps=400)
    assert said(after_the_beginning(20, kept=ONE_CLASS), waiting) == []
    assert said(after_the_beginning(40, coverage=0.04, kept=ONE_CLASS)) == []


def test_two_equal_classes_collapse_to_one():
    facts = Facts(("a", "b"), np.array([5, 5]), 1000)
    lines = [line(150 + 10 * n, np.array([0.99, 0.01])) for n in range(9)]
    assert said(lines, facts) == [(190, "collapse/base")]
    assert said([line(150 + 10 * n, np.array([0.8, 0.2])) for n in range(9)], facts) == []


def test_what_comes_back_after_a_while_is_said_again():
    bad, good = dict(kept=ONE_CLASS), dict()
    whens = [bad] * 8 + [good] * 12 + [bad] * 8
    lines = [line(150 + 10 * n, **how) for n, how in enumerate(whens)]
    assert [name for _, name in said(lines)] == ["collapse/base"] * 2
    whens = [bad] * 8 + [good] * 2 + [bad] * 8  # gone for a moment only
    lines = [line(150 + 10 * n, **how) for n, how in enumerate(whens)]
    assert [name for _, name in said(lines)] == ["collapse/base"]


def test_no_pseudo_label_for_long_is_said():
    assert said(after_the_beginning(9, coverage=0.0)) == []
    assert said(after_the_beginning(20, coverage=0.0)) == [(240, "silence/base")]
    assert said([line(step, coverage=0.0) for step in range(10, 151, 10)]) == []
    lines = after_the_beginning(40, coverage=0.0)
    for made in lines[::8]:
        made["monitor/mask/base"] = 0.01
    assert said(lines) == []
    waiting = FACTS._replace(warmup_steps=400)
    assert said(after_the_beginning(30, coverage=0.0), waiting) == []


def losses(values, name="loss/supervised"):
    return [line(10 * (n + 1), **{name: value}) for n, value in enumerate(values)]


@pytest.mark.parametrize("name", ["loss/supervised", "loss/supervised_balanced"])
def test_a_rising_loss_of_labels_is_said(name):
    rise = [1.0, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3, 0.5, 0.9, 1.2, 1.5, 1.9]
    ((_, found),) = said(losses(rise, name))
    assert found == name.replace("loss/", "rising/")


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 10 + [2.0, 1.5, 1.0, 0.8, 0.7, 0.6],  # at work only after a warm-up
        [1.0, 0.5] + [0.002] * 6 + [0.02] * 8,  # noise near zero
        [0.5] * 6 + [2.0] + [0.5] * 9,  # one log
        list(np.linspace(2.0, 0.1, 30)),
    ],
)
def test_a_loss_that_does_not_come_apart_is_none(values):
    assert said(losses(values)) == []


def test_other_losses_may_rise():
    assert said(losses(np.linspace(0.1, 9, 30), "loss/consistency")) == []


def test_devices_that_wait_are_said():
    assert said([line(n, input_share=0.5) for n in range(1, 9)]) == [(5, "starving")]
    shares = [0.5, 0.5, 0.5, 0.5, 0.1] * 4
    assert said([line(n, input_share=share) for n, share in enumerate(shares)]) == []


def test_classes_that_are_never_recognized_are_named():
    confusion = np.diag([5] * K)
    assert list(unrecognized("test", confusion, FACTS)) == []
    confusion[9] = 0  # no such image in this set
    assert list(unrecognized("test", confusion, FACTS)) == []
    confusion[8, 8], confusion[8, 0] = 0, 5
    (alarm,) = unrecognized("test", confusion, FACTS)
    assert alarm.name == "unrecognized/test"
    assert "1 of 10 classes are never recognized on test: 'c8'; they have 8 labeled" in alarm.text
    assert "Train longer if the loss was still falling" in alarm.text
    confusion[2:, :] = 1
    np.fill_diagonal(confusion[2:, 2:], 0)
    (alarm,) = unrecognized("test", confusion, FACTS)
    assert "'c6' and 3 more" in alarm.text and "'c7'" not in alarm.text


def test_effective_classes_is_the_exponential_of_the_entropy():
    assert effective_classes(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_classes(np.array([0, 4, 0])) == pytest.approx(1)
    p = np.array([0.7, 0.2, 0.1])
    assert effective_classes(50 * p) == pytest.approx(np.prod(p**-p))
    assert effective_classes(np.zeros(3)) == pytest.approx(1)
