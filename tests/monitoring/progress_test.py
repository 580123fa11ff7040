import io

import pytest
from rich.console import Console

from ltssl_jax.monitoring import progress as progress_


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress_.time, "monotonic", lambda: now[0])
    return now


def test_where_nobody_watches_a_line_now_and_then_says_how_long_it_takes(clock, capsys):
    with progress_.progress() as report:
        clock[0] += 50  # other work; the clock of this one starts with its first report
        report("checking images", 0, 400)
        assert capsys.readouterr().out == "checking images: 0 of 400\n"
        for done in range(20, 200, 20):
            clock[0] += 1
            report("checking images", done, 400)
            assert capsys.readouterr().out == ""
        clock[0] += 1
        report("checking images", 200, 400)
        assert capsys.readouterr().out == "checking images: 200 of 400, 0:00:10 left\n"


def test_short_work_prints_nothing(capsys):
    with progress_.progress() as report:
        for done in range(100):
            report("reading", done, 100)
    assert capsys.readouterr().out == ""


def test_quiet_is_quiet(clock, capsys):
    with progress_.progress(is_quiet=True) as report:
        clock[0] += 50
        report("reading", 1, 100)
    assert capsys.readouterr().out == ""


def test_a_bar_is_shown_where_a_person_watches():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_.bar(console) as shown:
        task = shown.add_task("", phase="reading [b]")
        shown.update(task, completed=3, total=7)
        shown.refresh()
        assert "reading [b]" in console.file.getvalue() and "3/7" in console.file.getvalue()
