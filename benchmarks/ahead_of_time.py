"""Compiles the training step for a TPU that is not there, and says what the compiler counts.

pip install "jax[tpu]"; python benchmarks/ahead_of_time.py --topology v5e:2x2

For each variant: does it compile, in how many seconds (minutes on a few cores), how many FLOPs and
bytes a step costs a device, how much memory it needs, and two times below which it cannot fall,
arithmetic and memory, at the stated peaks of the chip. Nothing runs, so these are bounds and
comparisons, not speeds. `--devices 4` shards a global batch of that many times 64 labeled images
over the topology (weak scaling).
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no machine to ask about

import dataclasses
import itertools
import time

import harness
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ltssl_jax import experiment, parallel
from ltssl_jax.training.step import many

# Peak bfloat16 FLOP/s and bytes/s of one chip, from the maker's documentation (v5e: 197 TFLOP/s,
# 819 GB/s).
PEAKS = {"v5e": (197e12, 819e9)}


VARIANTS = {
    f"{dtype}, views {'stacked' if stack == 'on' else 'one by one'}, {at_once} at once": (
        {"model.dtype": dtype, "parallel.stack_views": stack, "parallel.steps_at_once": at_once}
    )
    for dtype, stack, at_once in itertools.product(("float32", "bfloat16"), ("off", "on"), (1, 10))
}


def main():
    """Compiles the variants and prints the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=VARIANTS, default=VARIANTS)
    args = parser.parse_args()
    chips = topologies.get_topology_desc(args.topology, "tpu").devices[: args.devices]
    rows = {name: compiled(args, chips, VARIANTS[name]) for name in args.only}
    print(table(rows, args.topology.partition(":")[0]))
    facts = dict(topology=args.topology, devices=args.devices, depth=args.depth, width=args.width)
    harness.store(args.json, facts | dict(rows=rows))


def compiled(args, chips, changes):
    """Lowers and compiles one variant; returns what the compiler counts per device and step."""
    config = harness.cifar_like()
    config.model.update(depth=args.depth, width=args.width)
    config.parallel.mode = "shard_map"
    config.train.batch_size *= args.devices
    config.update_from_flattened_dict(changes)
    runner = parallel.Runner("shard_map", tuple(chips))
    run = dataclasses.replace(experiment.plan(config), runner=runner)
    step = many(experiment.train_step(run))
    mapped = runner.map(step, batch_axis=1, num_shared=1, donate_state=True)
    feed = experiment.training_feed(run, 0)
    batches = [next(feed.batches) for _ in range(config.parallel.steps_at_once)]
    batches = jax.tree.map(lambda *x: np.stack(x), *batches)
    mesh = Mesh(np.asarray(chips), (parallel.AXIS,))
    state = jax.eval_shape(lambda: experiment.initial_state(run))
    began = time.perf_counter()
    program = mapped.lower(
        placed(state, mesh, P()),
        placed(batches, mesh, P(None, parallel.AXIS)),
        placed(feed.resident, mesh, P()),
    ).compile()
    cost, memory = program.cost_analysis(), program.memory_analysis()
    # The compiler counts the body of a loop once: per step, whatever the number at once.
    return dict(
        compile_seconds=time.perf_counter() - began,
        gigaflops=cost["flops"] / 1e9,
        gigabytes=cost["bytes accessed"] / 1e9,
        temporary_megabytes=memory.temp_size_in_bytes / 1e6,
    )


def placed(tree, mesh, partition):
    """Shapes and types of the arrays, and where they would lie."""
    sharding = NamedSharding(mesh, partition)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype, sharding=sharding), tree
    )


def table(rows, chip):
    """A Markdown table."""
    flops, bandwidth = PEAKS.get(chip, (float("nan"),) * 2)
    lines = [
        "| variant | GFLOP | GB | MB temporary | ms arithmetic | ms memory | compile s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['gigaflops']:.0f} | {row['gigabytes']:.2f}"
            f" | {row['temporary_megabytes']:.0f} | {1e12 * row['gigaflops'] / flops:.2f}"
            f" | {1e12 * row['gigabytes'] / bandwidth:.2f} | {row['compile_seconds']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
