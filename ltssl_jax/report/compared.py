"""Several runs side by side: grouped by configuration, averaged over seeds, compared in pairs."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ltssl_jax.core import InputError
from ltssl_jax.evaluation import comparison, metrics
from ltssl_jax.evaluation.comparison import Interval
from ltssl_jax.report import benefit
from ltssl_jax.report.runs import Run

# What a configuration may differ in and still be the same one: seeds, what follows from them
# (statistics of the drawn images), and what changes no number.
_SAME = (
    "command", "identity", "commit", "continued", "seed", "data.split.seed", "augment.mean",
    "augment.std", "baseline", "monitoring.tensorboard", "monitoring.wandb", "train.log_every",
    "train.checkpoint_every", "train.eval_batch_size", "parallel.mode", "parallel.num_devices",
    "parallel.steps_at_once", "parallel.stack_views", "parallel.coordinator",
    "parallel.num_processes", "parallel.process_id",
)  # fmt: skip
_NAMED_FIRST = ("method.name", "method.base.name")


def compare(
    runs: Sequence[Run], found: Sequence[Mapping[str, Any]], axes: Sequence[str] = ()
) -> dict[str, Any]:
    """Compares runs.

    Args:
      runs: in the order of the report; the first group is what the others are compared with.
      found: `collected.of_run` of each.
      axes: fields that tell configurations apart in any case: those that a sweep is over.

    Returns:
      `groups`, each with `name`, `runs` (positions), `seeds` and `numbers`; `differences`;
      `benefits`; `warnings`.
    """
    members = grouped([described(run) for run in runs], axes)
    groups = [_group(name, ids, runs, found) for name, ids in members.items()]
    return {
        "groups": groups,
        "differences": _differences(groups, runs, found, axes),
        "benefits": [
            plain(one) | {"group": group["name"]}
            for group in groups
            for one in _benefits([runs[i] for i in group["runs"] if runs[i].result])
        ],
        "warnings": list(_warnings(groups, runs, found)),
    }


def described(run: Run) -> Mapping[str, Any]:
    """Returns the configuration of a run; of several stages with those of the earlier ones.

    What a stage was told beside the last one stands below the name of its directory.
    """
    if run.records == run.path:
        return run.config
    told = {one.records.name: one.config | one.beginning for one in run.earlier}
    told[run.records.name] = run.beginning
    method = run.config.get("method", {}) | {"name": run.method}
    stages = {f"{name}.{k}": v for name, stage in told.items() for k, v in _flat(stage).items()}
    return run.config | {"method": method} | stages


def grouped(configs: Sequence[Mapping[str, Any]], axes: Sequence[str] = ()) -> dict[str, list[int]]:
    """Groups configurations that differ in nothing but seeds, and in none of the axes.

    Returns:
      Positions by the name of a group, made of as few of the differing fields as tell all groups
      apart; in order of first appearance.
    """
    flat = [_flat(config, axes) for config in configs]
    keys = [tuple(sorted(fields.items())) for fields in flat]
    distinct = list(dict.fromkeys(keys))
    names = dict(zip(distinct, _names([dict(key) for key in distinct]), strict=True))
    found: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(names[key], []).append(position)
    return found


def plain(one: Any) -> dict[str, Any]:
    """Returns a `Benefit` as plain values."""
    return {"baseline": one.baseline, "sentence": one.sentence} | _numbers(one.difference)


def _benefits(seeds: Sequence[Run]) -> list[Any]:
    try:
        return benefit.benefits_over_seeds(seeds) if seeds else []
    except InputError:
        return []  # the reports of single runs say why


def _flat(config: Mapping[str, Any], axes: Sequence[str] = (), prefix: str = "") -> dict[str, str]:
    found = {}
    for name, value in config.items():
        path = prefix + name
        if path in _SAME and path not in axes:
            continue
        is_block = isinstance(value, Mapping)
        found |= _flat(value, axes, f"{path}.") if is_block else {path: str(value)}
    return found


def _names(configs: Sequence[Mapping[str, str]]) -> list[str]:
    """Names configurations, all distinct, by the fields that tell the most of them apart."""
    fields = {field for config in configs for field in config}
    fields = sorted(fields, key=lambda field: (field[0].isdigit(), field))  # those of stages last
    values = {field: [config.get(field) for config in configs] for field in fields}
    differing = [field for field, of in values.items() if len(set(of)) > 1]
    chosen: list[str] = [field for field in _NAMED_FIRST if field in differing]

    def parts(fields):
        return len(set(zip(*(values[field] for field in fields), strict=True))) if fields else 1

    while parts(chosen) < len(configs):
        chosen.append(max(differing, key=lambda field: parts([*chosen, field])))
    return [_name(config, configs, chosen) for config in configs]


def _name(
    config: Mapping[str, str], configs: Sequence[Mapping[str, str]], fields: Sequence[str]
) -> str:
    """Says the fields in which a configuration differs from those that are alike so far."""
    alike, said = list(configs), []
    for field in fields:
        if len({one.get(field) for one in alike}) > 1:
            said += [_said(field, config[field])] if field in config else []
            alike = [one for one in alike if one.get(field) == config.get(field)]
    return ", ".join(said) or config.get("method.name", "all runs")


def _said(field: str, value: str) -> str:
    return value if field in _NAMED_FIRST else f"{field.removeprefix('method.')}={value}"


def _group(
    name: str, ids: list[int], runs: Sequence[Run], found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    finished = [i for i in ids if runs[i].result.get("test")]
    return {
        "name": name,
        "runs": ids,
        "seeds": [runs[i].seeds for i in ids],
        "numbers": {
            metric: _mean([found[i]["headline"][metric] for i in finished])
            for metric in ("balanced_accuracy", "many", "medium", "few", "worst_class_recall")
        },
    }


def _mean(values: Sequence[float | None]) -> dict[str, Any]:
    values = [value for value in values if value is not None]
    return {
        "n": len(values),
        "mean": statistics.fmean(values) if values else None,
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }


def _differences(
    groups: Sequence[Mapping[str, Any]],
    runs: Sequence[Run],
    found: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
) -> list[dict[str, Any]]:
    """Compares each group with the first one."""
    first, *others = groups
    made = []
    for group in others:
        for metric in ("balanced_accuracy", "few"):
            if not first["numbers"][metric]["n"] and first["numbers"]["balanced_accuracy"]["n"]:
                continue  # fewer than three classes have no groups
            names = {"ours": group["name"], "theirs": first["name"], "metric": metric}
            try:
                interval = _difference(metric, group["runs"], first["runs"], runs, found, axes)
                made.append(names | _numbers(interval) | {"reason": ""})
            except InputError as error:
                nothing = dict(value=None, low=None, high=None, num=0, over="")
                made.append(names | nothing | {"reason": str(error)})
    return made


def _difference(
    metric: str,
    ours: Sequence[int],
    theirs: Sequence[int],
    runs: Sequence[Run],
    found: Sequence[Mapping[str, Any]],
    axes: Sequence[str],
) -> Interval:
    by_seed = [_by_seeds(ids, runs, axes) for ids in (ours, theirs)]
    if not all(by_seed):
        raise InputError("no run of both has finished; finish one of each")
    seeds = [seed for seed in by_seed[0] if seed in by_seed[1]]
    if len(seeds) > 1:
        pairs = [[found[of[seed]]["headline"][metric] for seed in seeds] for of in by_seed]
        return comparison.over_seeds(*pairs)
    if not seeds:
        raise InputError("they have no seed in common; train both with the same seeds")
    pair = [runs[of[seeds[0]]] for of in by_seed]
    predicted = [run.predictions.get("test") for run in pair]
    if None in predicted:
        missing = pair[predicted.index(None)]
        raise InputError(f"{missing.path} has no predictions.npz; {missing.remedy}")
    return comparison.over_images(*predicted, _scorer(metric, pair[0].labeled_counts))


def _by_seeds(
    ids: Sequence[int], runs: Sequence[Run], axes: Sequence[str]
) -> dict[tuple[Any, ...], int]:
    """Returns the finished runs by their seeds, without that of the split where it is an axis."""
    found: dict[tuple[Any, ...], int] = {}
    for i in (i for i in ids if runs[i].result.get("test")):
        seeds = runs[i].seeds[: 1 if "data.split.seed" in axes else 2]
        if seeds in found:
            raise InputError(f"there are several runs of {_seeds(*seeds)}; give one of each seed")
        found[seeds] = i
    return found


def _seeds(seed: Any, of_split: Any = None) -> str:
    return f"seed {seed}" + (f", split seed {of_split}" if of_split not in (None, seed) else "")


def _scorer(metric: str, labeled_counts: np.ndarray) -> Callable[[np.ndarray], float]:
    if metric == "balanced_accuracy":
        return metrics.balanced_accuracy
    ids = metrics.class_groups(labeled_counts)[metric]
    return lambda confusion: float(np.nanmean(metrics.recall_per_class(confusion)[ids]))


def _numbers(interval: Interval) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in interval._asdict().items()
    }


def _warnings(
    groups: Sequence[Mapping[str, Any]], runs: Sequence[Run], found: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    for seeds in dict.fromkeys(run.seeds for run in runs):
        splits = {run.data.get("split_fingerprint") for run in runs if run.seeds == seeds}
        if len(splits) > 1:
            yield (
                f"Runs of {_seeds(*seeds)} have different splits of the data: what differs between"
                " them is not the configuration alone."
            )
    steps = sorted({run.steps for run in runs})
    if len(steps) > 1:
        yield f"Runs differ in their numbers of steps: {', '.join(f'{s:,}' for s in steps)}."
    names = {tuple(one["classes"]["names"]) for one in found}
    if len(names) > 1:
        yield "Runs differ in their classes: their numbers cannot be compared."
    goes_on = [one["name"] for one in found if one["progress"]["goes_on"]]
    if goes_on:
        yield f"Finished once, now trained further: {', '.join(goes_on)}."
    unfinished = [one["name"] for one in found if not one["progress"]["is_finished"]]
    if unfinished:
        yield f"Not finished, and left out of means: {', '.join(unfinished)}."
    for group in groups:
        if len(set(group["seeds"])) < len(group["seeds"]):
            yield f"{group['name']} has several runs of one seed: their spread says too little."
