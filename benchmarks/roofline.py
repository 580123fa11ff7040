"""How near the compiled train step comes to what the machine can do, and where its time goes.

python benchmarks/roofline.py --json benchmarks/results/roofline_cpu.json

1. The step's arithmetic and memory traffic, counted by XLA: operations in the program as traced,
   bytes in the program as compiled, after fusion.
2. What the machine reaches, timed in turns with the step: copying a large array, matrix products
   in float32 and bfloat16, and every convolution of the step by itself. The floor of the step is
   the larger of operations / matrix product and bytes / copy; of both the fraction reached is
   printed. "Convolutions alone" is what they would take one after the other at their own speed.
3. A profile: the share of each purpose, and the most expensive operations with the line that asks
   for them. Where several run at once, a moment counts for each in equal parts.

The step is TRAS on random images like CIFAR-100, by `setups.tras`. On a GPU, captured
graphs hide names from the profiler: set XLA_FLAGS=--xla_gpu_enable_command_buffer= to see all.
"""

import collections
import re
from typing import NamedTuple

import convolutions
import harness
import hlo_profile
import jax
import jax.numpy as jnp
import numpy as np

COPIED_BYTES = 2**28  # far beyond any cache


class Counted(NamedTuple):
    """A compiled step, and XLA's count of it."""

    call: object
    text: str
    operations: float
    bytes: float
    convolutions: dict


def main():
    """Counts, times and profiles one step, and prints three tables."""
    args = parse()
    # A GPU works off several calls before the host hears of it; a CPU does not need that.
    calls = 1 if jax.default_backend() == "cpu" else 20
    counted, state, batch, resident = prepare(args)
    step = stepper(counted.call, state, batch, resident)
    works, sizes = ceilings(calls)
    works |= convolutions.alone(counted.convolutions, calls)
    works["step"] = lambda: [step() for _ in range(calls)]
    times = harness.in_turns(works, rounds=args.rounds)
    times = {name: np.divide(taken, calls) for name, taken in times.items()}
    summary = reached(counted, times, sizes, args.dtype)
    rows = convolutions.rows(counted.convolutions, times)
    shares, ops = profiled(counted.text, lambda: [step() for _ in range(2 * calls)], 2 * calls)
    print(summary_text(summary))
    print(convolutions.text(rows))
    print(profile_text(shares, ops[: args.top]))
    settings = {k: v for k, v in vars(args).items() if k not in ("json", "rounds")}
    harness.store(
        args.json,
        dict(settings=settings, summary=summary, convolutions=rows, purposes=shares, ops=ops[:100]),
    )


def parse():
    """Reads the command line."""
    parser = harness.parser(__doc__)
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="labeled images of a step")
    parser.add_argument("--dtype", default="float32", help="of the computation, or bfloat16")
    parser.add_argument("--top", type=int, default=20, help="how many operations to print")
    return parser.parse_args()


# --- the step -------------------------------------------------------------------------------------


def prepare(args):
    """Compiles the step; returns it with its count, and what it is called with."""
    config = harness.cifar_like()
    config.model.update(depth=args.depth, width=args.width, dtype=args.dtype)
    config.train.batch_size = args.batch
    step, state, next_batch, resident, _ = harness.prepared(config)
    batch = next_batch()
    lowered = step.lower(state, batch, resident)
    compiled = lowered.compile()
    jaxpr = jax.make_jaxpr(step)(state, batch, resident)
    counted = Counted(
        compiled,
        compiled.as_text(),
        lowered.cost_analysis()["flops"],
        compiled.cost_analysis()["bytes accessed"],
        collections.Counter(convolutions.find(jaxpr.jaxpr)),
    )
    return counted, state, batch, resident


def stepper(call, state, batch, resident):
    """Returns a function that makes the next step, always from the same batch."""

    def step():
        nonlocal state
        state, metrics = call(state, batch, resident)
        return metrics

    return step


# --- what the machine reaches ---------------------------------------------------------------------


def ceilings(calls):
    """Returns what to time, each `calls` times over, and by name its bytes or operations."""
    side = 2048 if jax.default_backend() == "cpu" else 4096
    array, product = jnp.zeros(COPIED_BYTES // 4, jnp.float32), jax.jit(jnp.matmul)
    # Donated, as a new result each time would measure how fast the system hands out memory.
    add_one = jax.jit(lambda a: a + 1, donate_argnums=0)

    def copy():
        nonlocal array
        for _ in range(calls):
            array = add_one(array)
        return array

    works, sizes = {"copy": copy}, {"copy": 2 * COPIED_BYTES}
    for dtype in ("float32", "bfloat16"):
        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
        works[dtype] = lambda matrix=matrix: [product(matrix, matrix) for _ in range(calls)]
        sizes[dtype] = 2 * side**3
    return works, sizes


def reached(counted, times, sizes, dtype):
    """Compares the step with its floors, round by round."""
    speeds = {name: size / times[name] for name, size in sizes.items()}
    arithmetic = counted.operations / speeds[dtype]
    memory = counted.bytes / speeds["copy"]
    by_themselves = sum(
        number * times[convolution.name] for convolution, number in counted.convolutions.items()
    )
    return dict(
        step_seconds=float(np.median(times["step"])),
        gigaoperations=counted.operations / 1e9,
        gigabytes=counted.bytes / 1e9,
        speeds={name: float(np.median(speed)) / 1e9 for name, speed in speeds.items()},
        arithmetic_floor=harness.ratio(arithmetic, times["step"]),
        memory_floor=harness.ratio(memory, times["step"]),
        floor=harness.ratio(np.maximum(arithmetic, memory), times["step"]),
        convolutions_alone=harness.ratio(by_themselves, times["step"]),
    )


def profiled(text, work, steps):
    """Profiles several steps; returns milliseconds of a step by purpose, and by operation."""
    program = hlo_profile.Program(text)
    found = [one for one in hlo_profile.record(work) if not program.is_container(one.op)]
    seconds = hlo_profile.attributed(found)
    extent = (max(one.end for one in found) - min(one.start for one in found)) * 1e-9
    purposes = collections.Counter(idle=(extent - sum(seconds.values())) / steps * 1e3)
    groups = collections.defaultdict(list)
    for op, taken in seconds.items():
        milliseconds, purpose = taken / steps * 1e3, program.purpose(op)
        purposes[purpose] += milliseconds
        # The same in every block of a stage is one thing to know.
        meaning = re.sub(r"(block\d+)_\d+", r"\1_*", program.meaning(op))
        groups[re.sub(r"\.\d+$", "", op), purpose, meaning].append(milliseconds)
    ops = [
        dict(op=op, purpose=purpose, meaning=meaning, number=len(each), milliseconds=sum(each))
        for (op, purpose, meaning), each in groups.items()
    ]
    return dict(purposes.most_common()), sorted(ops, key=lambda row: -row["milliseconds"])


# --- tables ---------------------------------------------------------------------------------------


def summary_text(summary):
    """Lays out the step beside its floors."""
    speeds, percent = summary["speeds"], {}
    for name in ("arithmetic_floor", "memory_floor", "floor", "convolutions_alone"):
        value = summary[name]
        percent[name] = "{median:.1%} ({low:.1%} - {high:.1%})".format(**value)
    return "\n".join(
        [
            f"step                     {summary['step_seconds'] * 1e3:10.2f} ms",
            f"operations               {summary['gigaoperations']:10.2f} G",
            f"memory traffic           {summary['gigabytes']:10.2f} GB",
            f"copy                     {speeds['copy']:10.1f} GB/s",
            f"matrix product, float32  {speeds['float32']:10.1f} G/s",
            f"matrix product, bfloat16 {speeds['bfloat16']:10.1f} G/s",
            f"arithmetic floor / step  {percent['arithmetic_floor']}",
            f"memory floor / step      {percent['memory_floor']}",
            f"larger floor / step      {percent['floor']}",
            f"convolutions alone / step {percent['convolutions_alone']}",
        ]
    )


def profile_text(purposes, ops):
    """Lays out shares and the most expensive operations."""
    total = sum(purposes.values())
    lines = [f"\n{'ms':>9} {'share':>6}  purpose"]
    lines += [f"{ms:9.3f} {ms / total:6.1%}  {purpose}" for purpose, ms in purposes.items()]
    lines += [f"\n{'ms':>9} {'share':>6} {'number':>6}  operation"]
    for row in ops:
        share = row["milliseconds"] / total
        lines.append(
            f"{row['milliseconds']:9.3f} {share:6.1%} {row['number']:6}  {row['op']}:"
            f" {row['purpose']}\n{'':26}{row['meaning']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
