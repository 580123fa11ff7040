"""Sweeps with training replaced, and one command as its users meet it."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from ltssl_jax import baselines, sweep
from ltssl_jax.core import InputError
from tests import small
from tests.report import made

ROOT = pathlib.Path(__file__).parents[1]
ASKED = ["--config=configs/tras_digits.py", "--config.parallel.num_devices=1", "--jobs=1"]
AXIS = "--config.method.threshold=0.9,0.95"
# What `skill` the network of a run has, for which the seeds count less than the threshold.
SKILL = {0.9: 1.0, 0.95: 4.0}


@pytest.fixture
def trained(monkeypatch):
    """Replaces training by runs made by hand; `ends` says how some of them end, by number."""
    directories = []

    def train(config, workdir, *, command, is_quiet):
        directories.append("/".join(workdir.parts[-2:]))
        train.commands.append(command)
        end = train.ends.get(len(directories))
        if isinstance(end, Exception):
            raise end
        if end == "interrupted":
            return {}
        threshold, steps = config.method.threshold, config.train.steps
        split = config.data.split.seed
        same = dict(
            seed=config.seed, step=steps, train={"steps": steps}, data={"split": {"seed": split}},
            parallel={"mode": config.parallel.mode}, fingerprint=f"of {split}",
        )  # fmt: skip
        method = {"name": "tras", "threshold": threshold}
        made.write(workdir, skill=SKILL[threshold], method=method, **same)
        if config.baseline:
            for name in baselines.OBJECTIVES:
                directory = workdir / "baseline" / name
                made.write(directory, skill=-1.0, **same)
        return {"step": steps}

    train.directories, train.commands, train.ends = directories, [], {}
    monkeypatch.setattr(baselines, "train", train)
    return train


def run(root, *arguments, seeds="0,1"):
    return sweep.sweep([*ASKED, f"--workdir={root}", f"--seeds={seeds}", *arguments])


def test_a_grid_ends_in_a_table(trained, tmp_path, capsys):
    root = tmp_path / "sweep"
    assert run(root, AXIS) == {}
    assert trained.directories == [f"threshold={t}/{s}" for t in (0.9, 0.95) for s in (0, 1)]
    assert trained.commands[0].startswith("python -m ltssl_jax.main --config=configs/tras_digits")
    said = capsys.readouterr().out
    assert "4 runs, 0 of them finished before" in said
    assert re.search(
        r"\[4/4\] threshold=0.95, seed 1: balanced accuracy \d+\.\d %; about 0:00", said
    )
    rows = re.findall(r"^│ threshold=([\d.]+) +│ 2 │ +([\d.]+) ± [\d.]+ │", said, re.M)
    assert [row[0] for row in rows] == ["0.9", "0.95"]
    assert float(rows[0][1]) < float(rows[1][1])
    assert re.search(r"threshold=0.95 against .*=0.9, balanced accuracy: \+.* over 2 seeds", said)
    assert f"python -m ltssl_jax.report {root}" in said
    assert "| threshold=0.95 |" in (root / "sweep.md").read_text()
    written = json.loads((root / "sweep.json").read_text())
    assert [one["n"] for one in (g["numbers"]["few"] for g in written["comparison"]["groups"])] == [
        2,
        2,
    ]


def test_what_is_finished_stays_and_more_is_added_to_the_table(trained, tmp_path, capsys):
    run(tmp_path, AXIS, seeds="0")
    run(tmp_path, "--config.method.threshold=0.95", seeds="0,1,2")
    assert trained.directories == [
        "threshold=0.9/0",
        "threshold=0.95/0",
        "threshold=0.95/1",
        "threshold=0.95/2",
    ]
    said = capsys.readouterr().out
    assert "3 runs, 1 of them finished before" in said
    assert re.search(r"threshold=0.9 +│ 1 │ +[\d.]+ │", said) and "│ 3 │" in said


def test_a_run_that_fails_does_not_end_the_others_and_is_tried_again(trained, tmp_path, capsys):
    trained.ends = {1: InputError("no room; make some"), 2: RuntimeError("chip on fire")}
    failed = run(tmp_path, AXIS)
    log = tmp_path / "threshold=0.9/1/log.txt"
    assert failed == {
        "threshold=0.9, seed 0": "no room; make some",
        "threshold=0.9, seed 1": f"RuntimeError: chip on fire (see {log})",
    }
    assert "Traceback" in log.read_text() and len(trained.directories) == 4
    said = capsys.readouterr().out
    assert "[1/4] threshold=0.9, seed 0: FAILED: no room; make some" in said
    assert "failed: threshold=0.9, seed 1: RuntimeError: chip on fire" in said.split("[4/4]")[1]
    assert run(tmp_path, AXIS) == {} and len(trained.directories) == 6


def test_a_failure_is_an_exit_code(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep.main_, "keep_compilations", lambda: None)
    trained.ends = {1: InputError("no room")}
    with pytest.raises(SystemExit) as end:
        sweep.main(["sweep", *ASKED, f"--workdir={tmp_path}", "--seeds=0"])
    assert end.value.code == 1
    sweep.main(["sweep", *ASKED, f"--workdir={tmp_path}", "--seeds=0"])


def test_an_interruption_ends_all_and_says_how_to_continue(trained, tmp_path, capsys):
    trained.ends = {2: "interrupted"}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, AXIS)
    assert "stopped after 1 of 4 runs; the same command continues" in capsys.readouterr().out
    run(tmp_path, AXIS)
    assert trained.directories[2:] == ["threshold=0.9/1", "threshold=0.95/0", "threshold=0.95/1"]


def test_every_run_is_checked_before_the_first_begins(trained, tmp_path):
    for wrong, said in [
        ("--config.method.threshold=0.9,2.0", "threshold=2.0, seed 0: method.threshold is 2.0"),
        ("--config.model.name=small_cnn,resnet", "name=resnet, seed 0: model 'resnet'"),
        ("--config.optim.schedule=constant,cos", "schedule=cos, seed 0: .*'cos'"),
        ("--config.train.steps=10,0", "steps=0, seed 0: train.steps is 0"),
        ("--config.parallel.coordinator=auto,x", "coordinator=auto.*a sweep runs on one machine"),
    ]:
        with pytest.raises(InputError, match=said):
            run(tmp_path / "sweep", wrong, seeds="0")
    assert trained.directories == [] and not (tmp_path / "sweep").exists()


def test_benefits_stand_beside_their_point(trained, tmp_path, capsys):
    run(tmp_path, AXIS, "--config.baseline=True")
    said = [
        line for line in capsys.readouterr().out.splitlines() if "labeled images helped" in line
    ]
    assert len(said) == 2 * len(baselines.OBJECTIVES)
    assert said[0].startswith("threshold=0.9: The unlabeled images helped: balanced")
    assert all("over 2 seeds" in line for line in said)


def test_what_makes_no_other_configuration_may_be_an_axis(trained, tmp_path, capsys):
    for root, axis in [("modes", "parallel.mode=pmap,jit"), ("splits", "data.split.seed=3,4")]:
        run(tmp_path / root, f"--config.{axis}")
        rows = re.findall(r"^│ ([\w.=]+) +│ (\d) │", capsys.readouterr().out, re.M)
        field, _, values = axis.partition("=")
        assert rows == [(f"{field}={value}", "2") for value in values.split(",")]


def test_doubts_about_the_comparison_are_said(trained, tmp_path, capsys):
    doubt = "tras has several runs of one seed"
    run(tmp_path)
    assert doubt not in capsys.readouterr().out
    (tmp_path / "1/config.json").write_text((tmp_path / "0/config.json").read_text())
    run(tmp_path)
    assert doubt in capsys.readouterr().out


def test_a_single_run_needs_no_comparison(trained, tmp_path, capsys):
    assert run(tmp_path, "--config.method.threshold=0.9", seeds="0") == {}
    assert trained.directories[0].endswith("/0") and "written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--seeds=0,0"], "--seeds is '0,0'"),
        (["--seeds=0,00"], "--seeds is '0,00'"),
        (["--seeds=0, 0"], "--seeds is '0, 0'"),
        (["--seeds=0,x"], "--seeds is '0,x'"),
        (["--seeds=0", "train"], "unexpected arguments: train"),
    ],
)
def test_mistakes_are_answered(typed, said, trained, tmp_path):
    with pytest.raises(InputError, match=said):
        sweep.sweep([*ASKED, f"--workdir={tmp_path}", *typed])


@pytest.mark.parametrize("mark", ["config.json", "stages.json"])
def test_the_directory_of_a_run_is_no_place_for_a_sweep(mark, trained, tmp_path):
    (tmp_path / mark).write_text("{}")
    with pytest.raises(InputError, match=f"is a run, there is {mark} in it; give the sweep a dir"):
        run(tmp_path, AXIS)


def test_flags_of_a_call_before_are_forgotten(trained, tmp_path):
    run(tmp_path, seeds="3,4")
    sweep.sweep([*ASKED, f"--workdir={tmp_path}"])
    assert trained.directories[-1].endswith("/0")
    with pytest.raises(InputError, match="--workdir is missing"):
        sweep.sweep(ASKED)


def test_a_process_for_every_run_that_is_left(trained, tmp_path, monkeypatch):
    run(tmp_path, AXIS)
    jobs = []
    monkeypatch.setattr(sweep.side_by_side, "shares", lambda number: jobs.append(number) or [])
    monkeypatch.setattr(sweep.side_by_side, "run", lambda trials, shares: iter(()))
    for seeds in ("0,1", "0,1,2", "0,1,2,3,4,5"):
        run(tmp_path, AXIS, "--jobs=8", seeds=seeds)
    assert jobs == [2, 8]


def test_misspelt_flags_end_the_program(trained, tmp_path):
    with pytest.raises(SystemExit, match="sedes.*python -m ltssl_jax.sweep --help"):
        sweep.sweep([*ASKED, f"--workdir={tmp_path}", "--sedes=0"])


@pytest.mark.whole
def test_two_processes_side_by_side(tmp_path):
    changes = {"train.steps": 4, "parallel.num_devices": 1}
    flags = [one for one in small.flags(changes) if "method" not in one]
    command = [sys.executable, "-m", "ltssl_jax.sweep", f"--workdir={tmp_path}", "--jobs=2"]
    command += ["--config=configs/supervised_digits.py", *flags]
    command += ["--config.method.objective=cross_entropy,logit_adjusted"]
    environment = small.environment(PYTHONPATH=os.fspath(ROOT), JAX_NUM_CPU_DEVICES="1")
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "objective=logit_adjusted against objective=cross_entropy, bal" in done.stdout
    for value in ("cross_entropy", "logit_adjusted"):
        directory = tmp_path / f"objective={value}/0"
        assert json.loads((directory / "result.json").read_text())["step"] == 4
        assert "devices: 1 cpu device" in (directory / "log.txt").read_text()
