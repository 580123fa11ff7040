"""Every method on long-tailed digits, beside its base: the table of docs/methods.md.

python benchmarks/methods_digits.py --workdir runs/methods_digits --seeds 0,1,2 --write

Runs each `configs/*_digits.py` once per seed, as the training command would, and what wrappers wrap
by itself, with equal steps; prints balanced accuracy, mean recall of the three rarest classes, the
difference to the method's base (paired by seed) and the processor's seconds of the whole run,
compiling included (of both cores together, and so the same beside other work). Finished runs are
kept in the work directory: the same command continues. `--only` names some methods, `--pool
longtail` makes the pool as long-tailed as the labels. With `--write` the table replaces the one in
the document, and every number goes to `results/`.
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
VARIANTS = {  # what was tried to explain a bad row
    "darp told of a uniform pool": ("darp", {"method.pool_prior": (1.0,) * 10}),
    "remixmatch not aligned": ("remixmatch", {"method.alignment": "none"}),
    "mixmatch at a tenth of the weight": ("mixmatch", {"method.unlabeled_weight": 7.5}),
    "mean_teacher at a tenth of the weight": ("mean_teacher", {"method.unlabeled_weight": 5.0}),
}


def main():
    """Runs what is missing, then prints, and writes if asked."""
    args = parse()
    files = sorted((ROOT / "configs").glob("*_digits.py"))
    names = [*(path.stem.removesuffix("_digits") for path in files), *VARIANTS]
    made = {
        seed: {name: configured(name, seed, args.pool) for name in names} for seed in args.seeds
    }
    rows = run(made, args.workdir / args.pool, args.only)
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


def configured(name, seed, pool):
    """The configuration of a method or a variant, with one seed for everything."""
    name, changes = VARIANTS.get(name, (name, {}))
    path = ROOT / "configs" / f"{name}_digits.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    config.seed = seed
    config.data.split.update(POOLS[pool])
    config.update_from_flattened_dict(changes)
    return config


def run(made, workdir, only):
    """The scores of all configurations of `made`, by seed and name, and of their bases."""
    rows = {}
    for seed, configs in made.items():
        everything, bases = with_bases(configs)
        if unknown := set(only) - set(everything):
            raise SystemExit(f"--only {', '.join(unknown)}: choose from {', '.join(everything)}")
        chosen = only or everything
        chosen = dict.fromkeys([*chosen, *(bases[name] for name in chosen if name in bases)])
        for name in chosen:
            scores = trained(everything[name], workdir / re.sub(r"\W+", "_", name) / str(seed))
            rows.setdefault(name, []).append(scores | {"base": bases.get(name, "")})
    return rows


def with_bases(configs):
    """Adds each base by itself where it is not there, and says which is whose."""
    everything, bases = dict(configs), {}
    for name, config in configs.items():
        if "base" not in config.method:
            continue
        alone = stages.without_stages(config).unlock()
        alone.method = config.method.base
        # As many steps as all stages together.
        alone.train.steps = sum(stage.train.steps for stage in stages.check(config))
        known = [n for n, other in everything.items() if other.to_dict() == alone.to_dict()]
        bases[name] = known[0] if known else f"{alone.method.name} as in {name}"
        everything[bases[name]] = alone.lock()
    return everything, bases


def trained(config, directory):
    """One run's scores, from its directory if it is finished."""
    asked = config.to_json(sort_keys=True)
    if not (directory / "asked.json").exists() or (directory / "asked.json").read_text() != asked:
        if directory.exists():
            raise SystemExit(f"{directory} holds another configuration: remove it")
        directory.mkdir(parents=True)
        (directory / "asked.json").write_text(asked)
    if not (directory / "result.json").exists():
        with accounted(directory / "cost.json"):
            stages.train(config, directory, is_quiet=True)
    files = [directory / name for name in ("result.json", "cost.json")]
    if not all(file.exists() for file in files):
        raise SystemExit(
            f"{directory} is not whole: run this again, or remove it if that is no help"
        )
    result, cost = (json.loads(file.read_text()) for file in files)
    return {key: result["test"][key] for key in ("balanced_accuracy", "few")} | cost


@contextlib.contextmanager
def accounted(path):
    """Adds up the seconds that the body costs, also of a run that is stopped and continued."""
    began = time.process_time()
    before = json.loads(path.read_text())["seconds"] if path.exists() else 0.0
    try:
        yield
    finally:
        seconds = before + time.process_time() - began
        path.write_text(json.dumps(dict(seconds=seconds, commit=harness.facts()["commit"])))
        print(f"{path.parent}: {seconds:.0f} s", file=sys.stderr, flush=True)


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
    if args.write and args.only:
        raise SystemExit("--write renews a whole table; do not choose by --only")
    if args.write:
        harness.store(ROOT / f"benchmarks/results/{file}.json", dict(seeds=args.seeds, rows=rows))
        commits = sorted({scores["commit"] for every in rows.values() for scores in every})
        seeds = ", ".join(map(str, args.seeds))
        write(text, title, f"commits {', '.join(commits)}; seeds {seeds}")


def write(text, title, origin):
    """Replaces what stands between this table's marks in the document."""
    facts = harness.facts()
    note = f"{title}, {facts['date']}; {facts['machine']}, JAX {facts['jax']}; {origin}:"
    note += f" `{facts['command']}`."
    block = f"<!-- {title} -->\n{text}\n\n{note}\n<!-- end -->"
    old = DOCUMENT.read_text()
    pattern = rf"<!-- {re.escape(title)} -->.*?<!-- end -->"
    if not re.search(pattern, old, re.S):
        raise SystemExit(f"{DOCUMENT} has no place for <!-- {title} -->")
    DOCUMENT.write_text(re.sub(pattern, lambda _: block, old, flags=re.S))


if __name__ == "__main__":
    main()
