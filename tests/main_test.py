"""The command as its users meet it: mistakes answered in a sentence, Ctrl-C, a run to the end."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from absl import app, flags

from ltssl_jax import main
from tests import small

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "--config=configs/tras_digits.py"
WORKDIR = "--workdir={tmp}/run"
RUN = [CONFIG, WORKDIR]

# What is typed, and what the answer must contain: the thing, and the remedy.
MISTAKES = {
    "misspelt field": ([*RUN, "--config.train.step=10"], r"train\.step\b.*did you mean 'steps'"),
    "misspelt block": ([*RUN, "--config.optm.name=sgd"], r"config\.optm.*did you mean 'optim'"),
    "unknown field": ([*RUN, "--config.zzz=1"], r"config\.zzz.*no such field"),
    "wrong type": ([*RUN, "--config.seed=abc"], "seed.*'abc'.*--help"),
    "misspelt flag": ([CONFIG, "--wrkdir=x"], "wrkdir.*workdir"),
    "no config": ([WORKDIR], "--config must have a value.*--help"),
    "missing config file": (["--config=configs/tras_digit.py", WORKDIR], "tras_digit.py.*path"),
    "unexpected argument": ([*RUN, "train"], "unexpected arguments: train"),
    "unwritable workdir": ([CONFIG, "--workdir={tmp}/file/run"], "--workdir.*file/run.*another"),
    "too many devices": ([*RUN, "--config.parallel.num_devices=3"], "3.*2 cpu.*at most 2"),
    "indivisible batch": ([*RUN, "--config.train.batch_size=7"], "batch_size is 7.*multiple of 2"),
    "no steps": ([*RUN, "--config.train.steps=0"], r"train\.steps is 0.*at least 1"),
    "unknown mode": ([*RUN, "--config.parallel.mode=pmpa"], "parallel.mode.*'pmpa'.*'pmap'"),
    "unknown source": (
        [*RUN, "--config.data.source.kind=digit"],
        "data.source.kind.*'digit'.*'digits'",
    ),
    "no root": (
        [*RUN, "--config.data.source.kind=folder"],
        "data.source.root is empty.*train/CLASS",
    ),
    "unknown method": ([*RUN, "--config.method.name=trass"], "method 'trass'.*'tras'"),
    "unknown recipe": ([*RUN, "--config.augment.recipe=digit"], "recipe.*'digit'.*digits"),
    "unknown network": ([*RUN, "--config.model.name=resnet"], "model 'resnet'.*wide_resnet"),
    "half of the statistics": ([*RUN, "--config.augment.mean=0.5,"], "augment.std.*give both"),
    "too many labels": (
        [*RUN, "--config.data.split.num_max=900"],
        "class 0 has .* images.*lower num_max",
    ),
    "unknown schedule": ([*RUN, "--config.optim.schedule=cos"], "schedule.*'cos'.*cosine_7_16"),
    "impossible decay": ([*RUN, "--config.ema.decay=1.5"], "ema.decay is 1.5.*below 1"),
}

# Forks one warm process per command: neither imports nor an orderly exit, a second each.
FORKS = """
import json, os, sys
from sklearn import datasets
from ltssl_jax import experiment, main
codes = []
for i, argv in enumerate(json.load(sys.stdin)):
    pid = os.fork()
    if not pid:
        output = os.open(f"{sys.argv[1]}/{i}.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(output, 1), os.dup2(output, 2)
        sys.argv = ["main", *argv]
        try:
            main.cli()
        except SystemExit as end:
            print(end.code, file=sys.stderr, flush=True)
            sys.stdout.flush()
            os._exit(bool(end.code))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


def environment(**changes):
    """Returns what a user's process sees: none of the tests' own settings but the cache."""
    ours = ("XLA_FLAGS", "JAX_NUMPY_RANK_PROMOTION")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"} | changes


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """The exit code and the output of each mistake."""
    tmp = tmp_path_factory.mktemp("mistakes")
    (tmp / "file").write_text("not a directory")
    commands = [[arg.format(tmp=tmp) for arg in argv] for argv, _ in MISTAKES.values()]
    forks = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp)],
        input=json.dumps(commands),
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    codes = json.loads(forks.stdout.splitlines()[-1])
    said = [(tmp / f"{i}.txt").read_text() for i in range(len(codes))]
    return dict(zip(MISTAKES, zip(codes, said, strict=True), strict=True))


@pytest.mark.whole
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(mistake, answers):
    code, said = answers[mistake]
    assert code == 1, said
    assert "Traceback" not in said
    assert re.search(MISTAKES[mistake][1], said, re.DOTALL), said
    assert len(said.splitlines()) <= 12, said


@pytest.fixture
def without_tensorflow(tmp_path):
    """An environment in which TensorFlow and its data sets cannot be imported."""
    for name in ("tensorflow", "tensorflow_datasets"):
        error = f'raise ModuleNotFoundError("No module named {name!r}", name={name!r})\n'
        (tmp_path / "hidden" / name).mkdir(parents=True)
        (tmp_path / "hidden" / name / "__init__.py").write_text(error)
    return environment(PYTHONPATH=f"{tmp_path / 'hidden'}{os.pathsep}{ROOT}")


@pytest.mark.whole
def test_ctrl_c_and_the_same_command_again(tmp_path, without_tensorflow):
    flags = [f"--config={ROOT}/configs/tras_digits.py"]
    rare = {"train.log_every": 10, "train.evaluate_every": 20, "train.checkpoint_every": 20}
    flags += small.flags({"train.steps": 40} | rare)
    command = [sys.executable, "-m", "ltssl_jax.main", *flags]
    options = dict(env=without_tensorflow, cwd=tmp_path, text=True)

    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as first:
        said = ""
        for line in first.stdout:
            said += line
            if line.startswith("devices:"):  # compilation begins: it takes far longer than we do
                first.send_signal(signal.SIGINT)
    assert first.returncode == 130, said
    step = int(re.search(r"stopped after step (\d+); the same command continues", said)[1])
    assert 1 <= step < 40

    again = subprocess.run(command, capture_output=True, timeout=300, **options)
    assert again.returncode == 0, again.stderr
    assert f"continuing after step {step}" in again.stdout
    assert "devices: 2 cpu devices (no accelerator), mapped by pmap" in again.stdout
    assert re.search(r"^step 40/40 .* images/s .* loss [\d.]+ = consistency", again.stdout, re.M)
    assert re.search(r"balanced accuracy +│ +\d+\.\d", again.stdout)
    files = tmp_path / "runs/tras_digits"  # where no --workdir is given
    assert json.loads((files / "result.json").read_text())["step"] == 40
    typed = json.loads((files / "config.json").read_text())["command"]
    assert typed == " ".join(["python -m ltssl_jax.main", *flags])


def test_help_is_no_failure(capsys):
    values = flags.FlagValues()
    flags.DEFINE_flag(app.HelpFlag(), values)
    flags.DEFINE_string("config", None, "Configuration.", flag_values=values)
    with pytest.raises(SystemExit) as ended:
        main.parse(["main", "--help"], values=values)
    assert ended.value.code == 0 and capsys.readouterr().out
