"""The report as Markdown: its tables and sentences, without pictures."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ltssl_jax.report.page import METRICS, duration, percent, points, spread

Found = Mapping[str, Any]

WHEN = {"before": "as trained", "after": "with temperature"}


def render(found: Found) -> str:
    """Writes what `collected.collect` returns."""
    blocks = comparison(found) if found["comparison"] else single(found["runs"][0])
    return "\n\n".join(blocks) + "\n"


def comparison(found: Found) -> list[str]:
    """Returns the blocks on several runs: means, warnings, differences, runs."""
    every = found["comparison"]
    return [
        f"# {len(found['runs'])} runs compared",
        "Percent on the test set, EMA weights, mean ± standard deviation over n runs.",
        means(every["groups"]),
        *_list(every["warnings"] + [f"{b['group']}: {b['sentence']}" for b in every["benefits"]]),
        *_differences(every),
        "## Runs",
        _table(
            ("run", "configuration", "seed", "step", "balanced accuracy", "alarms", "split"),
            [
                _run(found["runs"][i], group["name"])
                for group in every["groups"]
                for i in group["runs"]
            ],
        ),
    ]


def means(groups: Sequence[Found]) -> str:
    """Returns the table of means over seeds."""
    rows = [[one["name"], *(spread(one["numbers"][key]) for key in METRICS)] for one in groups]
    return _table(("configuration", *METRICS.values()), rows)


def single(run: Found) -> list[str]:
    """Returns the blocks on one run."""
    return [
        f"# {_plain(run['name'])}",
        *_headline(run),
        *_findings(run),
        *_baselines(run),
        *_classes(run),
        *_calibration(run),
        *_pseudo(run),
        *_facts(run),
    ]


def _headline(run: Found) -> list[str]:
    found = run["headline"]
    if not found:
        return ["There is no evaluation yet."]
    rows = [[percent(found[key]) for key in METRICS]]
    worst = f" Worst class: {_plain(found['worst_class'])}." if found["worst_class"] else ""
    return [_table(METRICS.values(), rows), f"Percent, on {_plain(found['of'])}.{worst}"]


def _findings(run: Found) -> list[str]:
    alarms = [f"Alarm {a['name']}, step {a['step']:,}: {a['text']}" for a in run["alarms"]]
    texts = [*alarms, *(one["sentence"] for one in run["benefits"]), *run["notes"]]
    return _list(texts)


def _baselines(run: Found) -> list[str]:
    beside = {"this run": run["headline"], **run["baselines"]}
    rows = [
        [name, *(percent(one[key]) for key in METRICS), one["of"]]
        for name, one in beside.items()
        if one
    ]
    if not run["baselines"]:
        return []
    return ["## Beside the labeled images alone", _table(("run", *METRICS.values(), "of"), rows)]


def _classes(run: Found) -> list[str]:
    found = run["classes"]
    if not found["recall"]:
        return []
    order = [k for ids in found["groups"].values() for k in ids]
    columns = ("class", "labeled", "test images", "recall %")
    rows = [
        [found["names"][k], found["labeled"][k], found["support"][k], percent(found["recall"][k])]
        for k in order
    ]
    confusions = [
        [one["true"], one["said"], one["images"], one["of"]] for one in run["confusion"]["most"]
    ]
    return [
        f"## Recall per class, most labeled first\n\n{_table(columns, rows)}",
        f"## Most frequent confusions\n\n{_table(('true', 'called', 'images', 'of'), confusions)}",
    ]


def _calibration(run: Found) -> list[str]:
    found = run["calibration"]
    if not found:
        return []
    rows = [
        [
            how, name, one["num_images"], percent(one["accuracy"]), percent(one["confidence"]),
            percent(one["ece"]), f"{one['brier']:.3f}",
        ]
        for when, how in WHEN.items() if found[when]
        for name, one in found[when]["summary"].items() if one["num_images"]
    ]  # fmt: skip
    columns = (
        "probabilities", "true classes", "images", "accuracy %", "mean probability %", "ECE %",
        "Brier",
    )  # fmt: skip
    fitted = (
        f"Temperature {found['temperature']:.2f}, fitted on {found['fitted_on']}."
        if found["after"]
        else "No validation images: no temperature is fitted."
    )
    return ["## Calibration on the test set", fitted, _table(columns, rows)]


def _pseudo(run: Found) -> list[str]:
    rows = []
    for name, one in run["pseudo"]["kinds"].items():
        last = [one[key]["all"][-1] if one[key] else None for key in ("precision", "recall")]
        away = [f"{percent(values[-1])} from {of}" for of, values in one["divergence"].items()]
        rows.append(
            [
                name,
                one["steps"][-1],
                percent(one["coverage"][-1]),
                *map(percent, last),
                "; ".join(away),
            ]
        )
    columns = ("kind", "step", "coverage %", "precision %", "recall %", "divergence %")
    return ["## Pseudo-labels at the last log line", _table(columns, rows)] if rows else []


def _facts(run: Found) -> list[str]:
    facts = dict(run["facts"])
    facts["training_seconds"] = duration(facts["training_seconds"])
    facts["versions"] = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    rows = [[k.replace("_", " "), v] for k, v in facts.items() if v not in (None, "")]
    return ["## The run", _table(("", ""), rows)]


def _differences(every: Found) -> list[str]:
    rows = [
        [
            one["ours"],
            METRICS[one["metric"]],
            f"not compared: {one['reason']}" if one["reason"] else _interval(one),
        ]
        for one in every["differences"]
    ]
    title = f"## Differences from {_plain(every['groups'][0]['name'])}, in points of percent"
    columns = ("configuration", "number", "difference (95 % interval)")
    return [title, _table(columns, rows)] if rows else []


def _interval(one: Found) -> str:
    ends = "" if one["low"] is None else f" ({points(one['low'])} to {points(one['high'])})"
    return f"{points(one['value'])}{ends} over {one['num']:,} {one['over']}"


def _run(run: Found, group: str) -> list[Any]:
    score = percent(run["headline"]["balanced_accuracy"]) if run["headline"] else "–"
    facts, now = run["facts"], run["progress"]
    state = " (goes on)" if now["goes_on"] else "" if now["is_finished"] else " (unfinished)"
    split = facts["split_seed"]
    seed = facts["seed"] if split in (None, facts["seed"]) else f"{facts['seed']}, split {split}"
    return [
        run["path"], group, seed, f"{now['step']}{state}", score,
        len(run["alarms"]), facts["split_fingerprint"][:8],
    ]  # fmt: skip


def _table(columns: Iterable[str], rows: Sequence[Sequence[Any]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_plain(str(cell)) for cell in line)} |" for line in lines)


def _list(texts: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {_plain(text)}" for text in texts)] if texts else []


def _plain(text: str) -> str:
    """Keeps what a name holds from ending a cell, or from being a tag."""
    text = " ".join(text.split())
    return re.sub(r"([|`\[\\])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
