"""Compiles the training step for a TPU that is not there, and says what the compiler counts.

pip install "jax[tpu]" libtpu; python benchmarks/ahead_of_time.py --topology v5e:2x2

For each variant (float32 and bfloat16, views one by one or stacked, one step or ten at once): does
it compile, in how many seconds, how many FLOPs and bytes a step moves per device, how much memory it
needs, and the two times below which it cannot fall, arithmetic and memory, at the stated peaks of
the chip. Nothing runs, so these are bounds and comparisons, not speeds. `--devices 4` shards a
global batch of that many times 64 labeled images over the topology (weak scaling).
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no machine to ask about

import itertools
import time

import harness
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ltssl_jax import core, experiment, parallel
from ltssl_jax.training.step import many

# Peak bfloat16 FLOP/s and bytes/s of one chip, from the maker's documentation (v5e: 197 TFLOP/s,
# 819 GB/s).
PEAKS = {"v5e": (197e12, 819e9)}


def main():
    """Compiles every variant and prints the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--width", type=int, default=2)
    args = parser.parse_args()
    chips = topologies.get_topology_desc(args.topology, "tpu").devices[: args.devices]
    rows = {}
    for dtype, stack, at_once in itertools.product(("float32", "bfloat16"), ("off", "on"), (1, 10)):
        name = f"{dtype}, views {'stacked' if stack == 'on' else 'one by one'}, {at_once} at once"
        rows[name] = compiled(args, chips, dtype, stack, at_once)
        print(name, rows[name], flush=True)
    print(table(rows, args.topology.partition(":")[0]))
    harness.store(args.json, dict(topology=args.topology, devices=args.devices, rows=rows))


def compiled(args, chips, dtype, stack, at_once):
    """Lowers and compiles one variant; returns what the compiler counts per device and step."""
    config = harness.cifar_like()
    config.model.update(depth=args.depth, width=args.width, dtype=dtype)
    config.parallel.update(mode="shard_map", stack_views=stack)
    config.train.batch_size *= args.devices
    run = experiment.plan(config)
    runner = parallel.Runner("shard_map", tuple(chips))
    run = run._replace(runner=runner)
    step = many(experiment.train_step(run))
    mapped = runner.map(step, batch_axis=1, num_shared=1, donate_state=True)
    feed = experiment.training_feed(run, 0)
    stacks = [next(feed.batches) for _ in range(at_once)]
    stack_of_batches = jax.tree.map(lambda *x: np.stack(x), *stacks)
    spec = lambda partition: (
        lambda x: jax.ShapeDtypeStruct(  # noqa: E731
            jnp.shape(x), x.dtype, sharding=NamedSharding(runner._mesh, partition)
        )
    )
    state = jax.tree.map(spec(P()), jax.eval_shape(lambda: experiment.initial_state(run)))
    batches = jax.tree.map(spec(P(None, parallel.AXIS)), stack_of_batches)
    resident = jax.tree.map(
        spec(P()), core.Resident(feed.resident.labeled, feed.resident.unlabeled)
    )
    began = time.perf_counter()
    program = mapped.lower(state, batches, resident).compile()
    cost, memory = program.cost_analysis(), program.memory_analysis()
    # The compiler counts the body of a loop once, so these are per step whatever the stack.
    return dict(
        compile_seconds=time.perf_counter() - began,
        gigaflops=cost["flops"] / 1e9,
        gigabytes=cost["bytes accessed"] / 1e9,
        temporary_megabytes=memory.temp_size_in_bytes / 1e6,
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
