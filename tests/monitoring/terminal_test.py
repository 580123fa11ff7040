"""What a person reads: plain lines, and tables that say what they are tables of."""

import re

import numpy as np
import pytest

from ltssl_jax.core import Log
from ltssl_jax.evaluation import metrics
from ltssl_jax.monitoring import terminal
from ltssl_jax.monitoring.terminal import Terminal

CONFUSION = np.array([[9, 1, 0], [2, 3, 0], [0, 4, 1]])
COUNTS = np.array([30, 10, 3])
SUMMARY = metrics.summary(CONFUSION, COUNTS, geometric_mean_floor=1 / 300)
TRAINING = {
    "loss": 1.5,
    "loss/supervised": 1.0,
    "loss/transfer": 0.5,
    "monitor/mask/base": 0.25,
    "monitor/threshold": 0.95,
    "grad_norm": 3.25,
}


@pytest.fixture
def said(capsys):
    """Runs `act(terminal)` and returns what was printed."""

    def said(act, **options):
        with Terminal(1000, 128, **options) as terminal:
            act(terminal)
        return capsys.readouterr().out

    return said


def rows(table):
    """Cells of each row of a printed table."""
    lines = [re.split(r"\s*[│┃|]\s*", line.strip()) for line in table.splitlines()]
    return [[cell for cell in line if cell] for line in lines if len(line) > 2]


def test_a_log_is_one_plain_line(said):
    line = said(lambda t: t.log(Log(step=100, metrics=TRAINING, num_steps=50, seconds=10.0)))
    assert line.count("\n") == 1 and "\x1b" not in line
    assert "step  100/1000" in line
    assert "640 images/s" in line  # 5 steps a second of 128 images
    assert "0:03:00 left" in line  # 900 steps at that rate
    assert "loss 1.500 = supervised 1.000 + transfer 0.500" in line
    assert ", mask/base 0.250" in line and "grad_norm" not in line


def test_monitors_are_no_summands(said):
    line = said(lambda t: t.log(Log(100, TRAINING, 50, 10.0)))
    assert line.endswith("= supervised 1.000 + transfer 0.500, mask/base 0.250, threshold 0.950\n")


def test_a_log_of_no_timed_step_names_no_speed(said):
    line = said(lambda t: t.log(Log(1, TRAINING, 0, 0.0)))
    assert "loss 1.500" in line and "images/s" not in line


@pytest.mark.parametrize("waited, words", [(0.1, ""), (2.5, " (25% waiting for input)")])
def test_a_log_says_when_the_steps_wait_for_input(said, waited, words):
    line = said(lambda t: t.log(Log(100, TRAINING, 50, 10.0, waited)))
    assert f"640 images/s{words}  0:03:00 left" in line


def test_a_line_of_training_a_minute_the_first_and_the_last(said, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])

    def act(t):
        for step in range(100, 1001, 100):
            clock[0] += 35.0
            t.log(Log(step, TRAINING, 50, 10.0))

    steps = [int(line.split()[1].split("/")[0]) for line in said(act).splitlines()]
    assert steps == [100, 300, 500, 700, 900, 1000]


def test_an_alarm_is_plain_where_nobody_watches_and_loud_where_somebody_does(said, monkeypatch):
    assert said(lambda t: t.alarm("the [loss] rises")) == "ALARM: the [loss] rises\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[1;31mALARM: the [loss] rises" in said(lambda t: t.alarm("the [loss] rises"))


def test_an_evaluation_is_one_line_in_percent(said):
    line = said(lambda t: t.evaluated(100, "test", SUMMARY))
    assert line == (
        "step  100/1000  test: balanced accuracy 56.7 %, few 20.0 %, worst class 20.0 %\n"
    )


def test_results_list_every_metric(said):
    title = "test: 20 images; head balanced, EMA weights, step 1000"
    table = said(lambda t: t.results(title, SUMMARY, "cow"))
    for part in ("test", "20 images", "head balanced", "EMA", "step 1000"):
        assert part in " ".join(table.split())
    found = {row[0]: float(row[1]) for row in rows(table) if row[1] != "%"}
    expected = {
        "accuracy": 65.0,
        "balanced accuracy": 56.7,
        "geometric mean of recalls": round(100 * (0.9 * 0.6 * 0.2) ** (1 / 3), 1),
        "worst class: cow": 20.0,
        "many (most labeled third)": 90.0,
        "medium": 60.0,
        "few (least labeled third)": 20.0,
        "rarer half of the classes": 40.0,
    }
    assert expected.items() <= found.items()
    assert len(found) == len(SUMMARY)


def test_recalls_go_from_frequent_to_rare(said):
    order = np.array([1, 2, 0])  # class 2 is the most frequent one now
    table = said(
        lambda t: t.recalls(
            "title", CONFUSION[order][:, order], ("dog", "cat", "cow"), COUNTS[order]
        )
    )
    assert rows(table)[1:] == [
        ["cow", "30", "10", "90.0"],
        ["dog", "10", "5", "60.0"],
        ["cat", "3", "5", "20.0"],
    ]


def test_what_was_not_evaluated_is_a_dash(said):
    """Two classes have no groups; of three, one has no test image and one no labeled image."""
    two = metrics.summary(np.array([[3, 1], [0, 4]]), np.array([9, 2]), geometric_mean_floor=0.1)
    assert "balanced accuracy 87.5 %, few – %, worst class 75.0 %" in said(
        lambda t: t.evaluated(100, "test", two)
    )
    assert ["few (least labeled third)", "–"] in rows(said(lambda t: t.results("", two, "cow")))
    confusion = np.array([[9, 1, 0], [0, 0, 0], [0, 4, 1]])
    table = said(lambda t: t.recalls("", confusion, ("dog", "cat", "cow"), np.array([9, 5, 0])))
    assert rows(table)[1:] == [
        ["dog", "9", "10", "90.0"],
        ["cat", "5", "0", "–"],
        ["cow", "0", "5", "20.0"],
    ]


def test_names_are_shown_as_they_are(said):
    names = ("[red]", ":cat:", "a[/]b")
    table = said(lambda t: t.recalls("title", CONFUSION, names, COUNTS))
    assert [row[0] for row in rows(table)[1:]] == list(names)
    assert said(lambda t: t.say("[bold] :cat:")) == "[bold] :cat:\n"


@pytest.mark.parametrize("num_classes, shown", [(29, 29), (30, 21), (100, 21)])
def test_of_many_classes_only_the_extremes_are_shown(said, num_classes, shown):
    names = [f"class {k}" for k in range(num_classes)]
    counts = np.arange(1000, 1000 - num_classes, -1)
    table = said(lambda t: t.recalls("title", np.eye(num_classes, dtype=int), names, counts))
    found = rows(table)[1:]
    assert len(found) == shown
    assert (found[0][0], found[-1][0]) == ("class 0", f"class {num_classes - 1}")
    if shown < num_classes:
        assert found[10] == ["…"] * 4
        assert (found[9][0], found[11][0]) == ("class 9", f"class {num_classes - 10}")


def test_long_lines_are_not_broken(said):
    text = "config.data: " + " ".join(f"field{i}=value{i}" for i in range(50))
    assert said(lambda t: t.say(text)) == text + "\n"


def test_reading_is_silent_where_nobody_watches(said):
    assert said(lambda t: t.reading(5, 10)) == ""


def test_a_quiet_terminal_says_nothing(said):
    def act(terminal):
        terminal.say("hello")
        terminal.log(Log(1, TRAINING, 1, 1.0))
        terminal.results("title", SUMMARY, "cow")

    assert said(act, is_quiet=True) == ""
