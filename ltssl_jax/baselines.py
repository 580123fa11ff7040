"""What the labeled images alone would have given: `config.baseline`.

After a run its baselines are trained in `RUN/baseline/NAME/`, with plain and with logit-adjusted
cross entropy: the same split, seed, network, optimizer, augmentation recipe and batches of labeled
images, and as many steps as all stages of the run together. They learn from the weak view of the
labeled images, as the supervised rows of published tables do. At the end stands, in a sentence and
in `benefit.json`, whether the unlabeled images helped.
"""

import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from ltssl_jax import defaults, experiment, stages
from ltssl_jax.core import InputError
from ltssl_jax.evaluation import predictions
from ltssl_jax.monitoring.progress import printer
from ltssl_jax.monitoring.records import RunDirectory
from ltssl_jax.report import benefit, runs

FILE = "benefit.json"
OBJECTIVES = {"supervised": "cross_entropy", "supervised_la": "logit_adjusted"}


def train(
    config: ConfigDict, workdir: str | os.PathLike, *, command: str = "", is_quiet: bool = False
) -> dict[str, Any]:
    """Trains a run, then its baselines if `config.baseline`; continues what was begun.

    Args:
      config: see `defaults.base`.
      workdir: the run's directory.
      command: what the user typed.
      is_quiet: print nothing.

    Returns:
      The result of the run itself; empty if it or a baseline was interrupted.

    Raises:
      InputError: see `stages.train`; or a baseline is of another seed or split.
    """
    was_finished = have_finished(config, workdir)
    result = stages.train(config, workdir, command=command, is_quiet=is_quiet)
    if not was_finished and jax.process_index() == 0:
        pathlib.Path(workdir, FILE).unlink(missing_ok=True)  # it is of fewer steps
    if not (result and config.baseline):
        return result
    console = printer(is_quiet=is_quiet or jax.process_index() > 0)
    if not (configs := asked(config)):
        console.print("no baseline is trained: the run itself uses no unlabeled image")
        return result
    for name, baseline in configs.items():
        if _is_foreign(directory := _directory(workdir, name), workdir):
            raise InputError(
                f"{directory} is of another seed or split than {workdir}; delete it, and the same"
                " command trains it anew"
            )
        if not _is_comparable(directory, baseline):
            steps = f"{baseline.train.steps:,} steps"
            console.print(f"baseline {name}: the labeled images alone, {steps}, in {directory}")
            if not experiment.train(baseline, directory, command=command, is_quiet=is_quiet):
                return {}
    if jax.process_index() == 0:
        found = benefit.benefits(runs.read(workdir))
        RunDirectory(workdir).write_json(FILE, benefit.as_json(found))
        for one in found:
            console.print(one.sentence)
    return result


def asked(config: ConfigDict) -> dict[str, ConfigDict]:
    """Returns the configurations of the baselines of a run by name; none where it needs none."""
    made: dict[str, ConfigDict] = {}
    if not (config.baseline and _uses_pool(config)):
        return made
    for name, objective in OBJECTIVES.items():
        made[name] = baseline = stages.without_stages(config).unlock()
        baseline.baseline = False
        baseline.method = defaults.method("supervised", objective=objective)
        baseline.train.mu = 1  # these images are not looked at: the fewest that a batch may have
        baseline.train.steps = sum(stage.train.steps for stage in stages.check(config))
        baseline.lock()
    return made


def have_finished(config: ConfigDict, workdir: str | os.PathLike) -> bool:
    """Says whether nothing is left to be done, neither for the run nor for a baseline."""
    if not _has_finished(pathlib.Path(workdir), stages.check(config)[-1]):
        return False
    baselines = {_directory(workdir, name): one for name, one in asked(config).items()}
    return not baselines or (
        all(_is_comparable(directory, one) for directory, one in baselines.items())
        and not any(_is_foreign(directory, workdir) for directory in baselines)
        and pathlib.Path(workdir, FILE).exists()
    )


def _uses_pool(config: ConfigDict) -> bool:
    """Says whether any stage learns from unlabeled images."""
    grows = any(config.stages[name].growth.rule for name in config.stages.order)
    return grows or any(stage.method.name != "supervised" for stage in stages.check(config))


def _directory(workdir: str | os.PathLike, name: str) -> pathlib.Path:
    return pathlib.Path(workdir, runs.BASELINES, name)


def _is_comparable(directory: pathlib.Path, baseline: ConfigDict) -> bool:
    """Says whether a baseline has finished; its predictions come after the result, and may fail."""
    return _has_finished(directory, baseline) and (directory / predictions.FILE).exists()


def _is_foreign(directory: pathlib.Path, workdir: str | os.PathLike) -> bool:
    """Says whether a baseline was begun for another run: one of another seed or split."""
    try:
        return not benefit.is_of(runs.read(workdir), runs.read(directory))
    except InputError:  # not begun; or damaged, which is found out where it is continued
        return False


def _has_finished(directory: pathlib.Path, config: ConfigDict) -> bool:
    """Says whether a run has come to its last step, which may be later now than it was."""
    return stages.result_of(directory).get("step") == config.train.steps
