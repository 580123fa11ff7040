"""What each means of making the step faster is worth on this machine.

python benchmarks/levers.py --rounds 7 --json benchmarks/results/levers_NAME.json

Every variant is the training step as a run makes it, images resident, in a process of its own,
since some variants are environment variables. The processes take turns; each figure is the time of
a step relative to the first variant, round by round (median and quartiles), with what XLA counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import NamedTuple

import harness
import jax
import jax.numpy as jnp

from ltssl_jax import experiment
from ltssl_jax.training.step import many


class Variant(NamedTuple):
    """What differs from the configuration and the environment of a run."""

    changes: dict
    environment: dict = {}
    seeds: int = 1  # runs in one program, whose time is divided by their number


VARIANTS = {
    "one pass per view": Variant({}),
    "views stacked": Variant({"parallel.stack_views": "on"}),
    "views stacked, 10 steps at once": Variant(
        {"parallel.stack_views": "on", "parallel.steps_at_once": 10}
    ),
    "views stacked, 50 steps at once": Variant(
        {"parallel.stack_views": "on", "parallel.steps_at_once": 50}
    ),
    "bfloat16": Variant({"model.dtype": "bfloat16"}),
    "bfloat16, views stacked": Variant({"parallel.stack_views": "on", "model.dtype": "bfloat16"}),
    "bfloat16, views stacked, 50 steps at once": Variant(
        {
            "parallel.stack_views": "on",
            "parallel.steps_at_once": 50,
            "model.dtype": "bfloat16",
        }
    ),
    "no augmentation": Variant({"parallel.stack_views": "off", "augment.recipe": "none"}),
    "four seeds in one program": Variant({"parallel.mode": "jit"}, seeds=4),
    # The flag that the command sets takes this type off the list; so this is XLA untouched.
    "CPU: XLA's default convolutions": Variant(
        {},
        {
            "XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type="
            "+LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
        },
    ),
    "CPU: huge pages": Variant({}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
}


def main():
    """Serves one variant, or lets all take turns and prints the table."""
    args = parse()
    if args.serve:
        return serve(args, VARIANTS[args.serve])
    names = [name for name in VARIANTS if not args.only or name in args.only]
    servers, counted = {}, {}
    for name in names:  # one after the other: compiling on a busy device may choose badly
        servers[name] = start(name)
        counted[name] = json.loads(servers[name].stdout.readline())
    times = {name: [] for name in names}
    for number in range(args.rounds):
        for name in names[:: 1 if number % 2 == 0 else -1]:
            times[name].append(ask(servers[name], args.steps))
    for server in servers.values():
        server.stdin.close()
    rows = {
        name: counted[name] | dict(seconds=taken, ratio=harness.ratio(taken, times[names[0]]))
        for name, taken in times.items()
    }
    print(table(rows))
    harness.store(args.json, dict(steps=args.steps, network=network(args), rows=rows))


def parse():
    """Reads the command line."""
    parser = harness.parser(__doc__)
    parser.add_argument("--depth", type=int, default=28, help="of the wide ResNet")
    parser.add_argument("--width", type=int, default=2, help="of the wide ResNet")
    parser.add_argument("--batch", type=int, default=64, help="labeled images per step")
    parser.add_argument("--steps", type=int, default=1, help="steps a round; on a GPU take 200")
    parser.add_argument("--only", nargs="*", choices=VARIANTS, help="some of the variants")
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def start(name):
    """Starts the process of a variant."""
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return subprocess.Popen(
        [sys.executable, *sys.argv, "--serve", name],
        env=environment | VARIANTS[name].environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(server, num_steps):
    """Returns the seconds that a step took."""
    server.stdin.write(f"{num_steps}\n")
    server.stdin.flush()
    return float(server.stdout.readline())


def serve(args, variant):
    """Answers each number of steps with the seconds of one of them."""
    config = harness.cifar_like()
    config.model.depth, config.model.width = args.depth, args.width
    config.train.batch_size = args.batch
    config.parallel.update(num_devices=1, stack_views="off")
    config.update_from_flattened_dict(variant.changes)
    step, state, stacks, resident, at_once = prepared(config, variant.seeds)
    began = time.perf_counter()
    lowered = step.lower(state, next(stacks), resident)
    compiled = lowered.compile()
    cost, took = compiled.cost_analysis(), time.perf_counter() - began
    for _ in range(2):
        state, metrics = step(state, next(stacks), resident)
    jax.block_until_ready(metrics)
    facts = dict(
        gigabytes=cost["bytes accessed"] / 1e9,
        # Of the program as written: on a GPU the compiled one calls libraries, which count nothing.
        gigaflops=lowered.cost_analysis()["flops"] / 1e9,
        compile_seconds=took,
        temporary_gigabytes=compiled.memory_analysis().temp_size_in_bytes / 1e9,
    )
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        calls = max(int(line) // at_once, 1)
        began = time.perf_counter()
        for _ in range(calls):
            state, metrics = step(state, next(stacks), resident)
        jax.block_until_ready(metrics)
        made = calls * at_once * variant.seeds
        print((time.perf_counter() - began) / made, flush=True)


def prepared(config, seeds):
    """Returns the mapped step, its arguments, and the steps it makes at once."""
    run = experiment.plan(config)
    at_once = max(config.parallel.steps_at_once, 1)
    pure, state = many(experiment.train_step(run)), experiment.initial_state(run)
    if seeds > 1:
        step = jax.jit(jax.vmap(pure, in_axes=(0, None, None)), donate_argnums=0)
        state = jax.tree.map(lambda x: jnp.stack([x] * seeds), state)
    else:
        step = run.runner.map(pure, batch_axis=1, num_shared=1, donate_state=True)
    feed = experiment.training_feed(run, 0)
    stacks = experiment.stacks(run, feed, 0, at_once)
    return step, run.runner.replicate(state), stacks, run.runner.replicate(feed.resident), at_once


def network(args):
    """Names what was trained."""
    return f"WRN-{args.depth}-{args.width}, batch {args.batch}, mu 1, two strong views"


def table(rows):
    """A Markdown table."""
    lines = [
        "| variant | ms per step | relative | quartiles | GB | GFLOP | compile s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        times, ratio = sorted(row["seconds"]), row["ratio"]
        lines.append(
            f"| {name} | {1000 * times[len(times) // 2]:.3g} | {ratio['median']:.2f}"
            f" | {ratio['low']:.2f} – {ratio['high']:.2f} | {row['gigabytes']:.2f}"
            f" | {row['gigaflops']:.0f} | {row['compile_seconds']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
