"""Every method on long-tailed digits, beside its base: the table of docs/methods.md.

python benchmarks/methods_digits.py --workdir runs/methods_digits --seeds 0,1,2 --write

Runs each `configs/*_digits.py` once per seed, as the training command would, and prints balanced
accuracy, mean recall of the three rarest classes, the difference to the method's base (paired by
seed) and the processor's seconds of the whole run, compiling included (of both cores together, and
so the same beside other work). Finished runs are kept in the work directory: the same command
continues. `--only` names some methods, `--pool longtail` makes the pool as long-tailed as the
labels. With `--write` the table replaces the one in the document, and every number goes to
`results/`.
"""

import argparse
import contextlib
import importlib.util
import json
import pathlib
import re
import sys
import time

import harness
import numpy as np

from ltssl_jax import stages

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "methods.md"
POOLS = {
    "all": dict(),
    "longtail": dict(unlabeled_shape="consistent", unlabeled_num_max=60),
}


def main():
    """Runs what is missing, then prints, and writes if asked."""
    args = parse()
    names = args.only or sorted(p.stem.removesuffix("_digits") for p in configs())
    rows = {}
    for seed in args.seeds:
        for name in names:
            config = configured(name, seed, args.pool)
            directory = args.workdir / args.pool / name / str(seed)
            rows.setdefault(name, []).append(trained(name, config, directory))
    report(rows, f"digits, pool {args.pool}", f"methods_digits_{args.pool}", args)


def parse():
    """Reads the command line."""
    made = parser(__doc__)
    made.add_argument("--pool", choices=POOLS, default="all")
    return made.parse_args()


def parser(description):
    """The options of every table of methods."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("--workdir", type=pathlib.Path, required=True)
    made.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    made.add_argument("--only", type=lambda s: s.split(","), default=[])
    made.add_argument("--write", action="store_true", help="renew docs and results")
    return made


def configs():
    """The configuration files of all methods on digits."""
    return (ROOT / "configs").glob("*_digits.py")


def configured(name, seed, pool):
    """The configuration of a method, with one seed for everything."""
    path = ROOT / "configs" / f"{name}_digits.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.seed = seed
    config.data.split.update(POOLS[pool])
    return config


def trained(name, config, directory):
    """One run's scores, from its directory if it is finished."""
    asked = config.to_json(sort_keys=True)
    if not (directory / "asked.json").exists() or (directory / "asked.json").read_text() != asked:
        if directory.exists():
            raise SystemExit(f"{directory} holds another configuration: remove it")
        directory.mkdir(parents=True)
        (directory / "asked.json").write_text(asked)
    if not (directory / "result.json").exists():
        with processor_seconds(directory / "spent"):
            stages.train(config, directory, is_quiet=True)
    result = json.loads((directory / "result.json").read_text())
    seconds = float((directory / "spent").read_text())
    scores = {key: result["test"][key] for key in ("balanced_accuracy", "few")}
    return scores | {"seconds": seconds, "base": config.method.get("base", {}).get("name", "")}


@contextlib.contextmanager
def processor_seconds(path):
    """Adds what the body costs to a file, also of a run that is stopped and continued."""
    began, before = time.process_time(), float(path.read_text()) if path.exists() else 0.0
    try:
        yield
    finally:
        path.write_text(str(before + time.process_time() - began))
        print(f"{path.parent}: {path.read_text()} s", file=sys.stderr, flush=True)


def table(rows):
    """A Markdown table: percent, mean ± sample standard deviation; best first."""
    lines = [
        "| method | balanced accuracy | few | minus its base | seconds | n |",
        "|---|---|---|---|---|---|",
    ]

    def column(name, key):
        return np.array([100 * scores[key] for scores in rows[name]])

    for name in sorted(rows, key=lambda name: -column(name, "balanced_accuracy").mean()):
        base, difference = rows[name][0]["base"], ""
        if base in rows:
            minus = column(name, "balanced_accuracy") - column(base, "balanced_accuracy")
            difference = f"{base}: {harness.spread(minus)}"
        cells = [harness.spread(column(name, key)) for key in ("balanced_accuracy", "few")]
        seconds = np.median([scores["seconds"] for scores in rows[name]])
        lines.append(
            f"| `{name}` | {' | '.join(cells)} | {difference} | {seconds:.0f} | {len(rows[name])} |"
        )
    return "\n".join(lines)


def report(rows, title, file, args):
    """Prints the table; if asked, stores the numbers and renews it in the document."""
    text = table(rows)
    print(text)
    if args.write:
        harness.store(ROOT / f"benchmarks/results/{file}.json", dict(seeds=args.seeds, rows=rows))
        write(text, title, args.seeds)


def write(text, title, seeds):
    """Replaces what stands between this table's marks in the document."""
    facts = harness.facts()
    note = f"{title}; {facts['machine']}, JAX {facts['jax']}, commit {facts['commit']}:"
    command = f"`{facts['command']}`, seeds {', '.join(map(str, seeds))}."
    block = f"<!-- {title} -->\n{text}\n\n{note} {command}\n<!-- end -->"
    old = DOCUMENT.read_text()
    pattern = rf"<!-- {re.escape(title)} -->.*?<!-- end -->"
    if not re.search(pattern, old, re.S):
        raise SystemExit(f"{DOCUMENT} has no place for <!-- {title} -->")
    DOCUMENT.write_text(re.sub(pattern, lambda _: block, old, flags=re.S))


if __name__ == "__main__":
    main()
