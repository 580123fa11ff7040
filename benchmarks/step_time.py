"""How fast is our TRAS step beside the same step in PyTorch?

python benchmarks/step_time.py --json benchmarks/results/step_time_cpu.json
python benchmarks/step_time.py --what step --against tuned compiled --steps 200

Times one update of TRAS (labeled batch 64, as many unlabeled images, two strong views, WRN-28-2,
Adam, EMA, shrink) here and in the styles of `torch_step.py`: as the authors of these methods
program it, and as well as PyTorch allows. `step` is the update alone, on views that are there
already; `whole` looks images up, augments them and updates: ours in the compiled step, the authors'
by Pillow in as many loader workers as there are cores, the tuned ones on the device.

First one step is made by all from the same weights on the same views, in float32, and everything
that it computed is compared: losses, gradients, batch statistics, weights, averages. Deviations
beyond `TOLERANCES` end the program. Then rounds of `--steps` steps are timed in turns. PyTorch runs
in processes of its own, one per style, which are stopped (SIGSTOP) while they wait, so that neither
their threads nor their loader workers get ahead on another's time; ours has nothing to do then.

PyTorch is no dependency of this library: `pip install torch`, or give `--torch-python` the
interpreter of an environment that has torch, numpy and pillow. Needs Linux. On a GPU ours and the
tuned styles compute in bfloat16, the authors' in float32; on a CPU all in float32.
"""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import harness
import jax
import numpy as np
from flax import traverse_util
from torch_process import Torch

from ltssl_jax import core, experiment
from ltssl_jax.training.step import many

# Largest relative deviation allowed, of weights and statistics relative to their change. These are
# compared by the median: where a gradient is all rounding, Adam's first update has either sign. The
# change of the averages, a thousandth of it, is near the resolution of float32. Against a step of
# WRN-28-2 in float64 the gradients of some tensors are off by 0.0016 here, by 0.0018 in PyTorch and
# by 0.0066 in PyTorch channels-last: rounding.
TOLERANCES = {"loss": 1e-4, "monitor": 1e-6, "gradient": 2e-2, "online": 1e-3, "average": 0.25}
EQUAL_PIXELS = 0.99  # of augmentation on the device and with Pillow
WHATS = ("step", "whole")
STYLES = ("authors", "tuned", "compiled")


def main():
    """Checks, times, prints, stores."""
    args = parse()
    # Several processes share the device's memory; ours would take three quarters of it.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
    on_gpu = jax.default_backend() == "gpu"
    num_steps = args.steps or (100 if on_gpu else 1)
    exact = experiment.plan(configured(args, "float32"))
    run = experiment.plan(configured(args, "bfloat16")) if on_gpu else exact
    views = first_views(run)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        job = pathlib.Path(directory, "job.npz")
        np.savez(job, **described(run, views, args))
        torch = {s: stack.enter_context(Torch(args.torch_python, job, s)) for s in args.against}
        evidence = dict(torch={name: side.facts for name, side in torch.items()})
        for facts in evidence["torch"].values():
            if (facts["device"] == "cuda") != on_gpu:
                raise SystemExit(f"JAX runs on {jax.default_backend()}, PyTorch on {facts}")
        alone = Ours(exact, views)
        evidence["check"] = checked(alone, torch, pathlib.Path(directory))
        for what in args.what:
            if what == "whole" or run is not exact:
                at_once = math.gcd(num_steps, experiment.steps_at_once(run, "resident"))
                ours = Ours(run, views if what == "step" else None, at_once)
            else:
                ours = alone
            works = {"ours": functools.partial(ours, num_steps)}
            works |= {
                name: functools.partial(side, what, num_steps) for name, side in torch.items()
            }
            evidence[what] = timed(works, torch, args.rounds, num_steps)
            print(table(what, evidence[what]))
    settings = dict(vars(args), steps=num_steps, dtype=run.config.model.dtype)
    del settings["torch_python"], settings["json"]
    harness.store(args.json, dict(settings={k: str(v) for k, v in settings.items()}) | evidence)


def parse():
    """Reads the command line."""
    parser = harness.parser(__doc__)
    parser.add_argument("--what", nargs="+", choices=WHATS, default=WHATS)
    parser.add_argument("--against", nargs="+", choices=STYLES, default=STYLES[:2])
    parser.add_argument("--steps", type=int, help="per round; default 1 on a CPU, 100 on a GPU")
    parser.add_argument("--depth", type=int, default=28)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64, help="labeled images per step")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the loaders")
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with PyTorch")
    return parser.parse_args()


def configured(args, dtype: str):
    """Returns the paper's configuration on random images, on one device."""
    config = harness.cifar_like()
    config.model.update(depth=args.depth, width=args.width, dtype=dtype)
    config.train.batch_size = args.batch
    config.parallel.num_devices = 1
    # Both heads train from the first step, and with `start` some pseudo-labels count.
    config.method.update(warmup_epochs=-1, threshold=0.5)
    return config


# --- what both sides begin with -------------------------------------------------------------------


def first_views(run: experiment.Plan) -> core.Batch:
    """Makes the views that `step` is timed on, and checked."""
    feed = experiment.training_feed(run, 0)
    key = jax.random.key(run.config.seed)
    return jax.jit(run.views)(next(feed.batches), feed.resident, key, 0)


def start(run: experiment.Plan) -> core.TrainState:
    """Returns step 0 with heads ten times as large, which are confident about some images."""
    state = experiment.initial_state(run)
    params = {
        name: jax.tree.map(lambda x: 10 * x, value) if name.startswith("classifier_") else value
        for name, value in state.params.items()
    }
    return state.replace(params=params, ema=state.ema.replace(params=params))


def described(run: experiment.Plan, views: core.Batch, args) -> dict[str, Any]:
    """Returns everything that PyTorch must know, as NumPy arrays and numbers by name."""
    config, images = run.config, run.source.train
    state = start(run)
    arrays = {"views/labels": views.labeled.label, "log_pi": state.method_state}
    arrays |= {"views/weak": views.unlabeled.weak, "views/labeled": views.labeled.image}
    arrays |= {f"views/strong{i}": view for i, view in enumerate(views.unlabeled.strong)}
    arrays |= in_torch("start", state.params, state.batch_stats)
    for stream in ("labeled", "unlabeled"):
        positions = getattr(run.split, stream)
        arrays[f"{stream}_images"] = images.read(positions)
        arrays[f"{stream}_labels"] = images.labels[positions]
    return arrays | dict(
        {name: config.method[name] for name in ("A", "B", "temperature", "threshold")},
        **{name: config.model[name] for name in ("depth", "width", "momentum")},
        learning_rate=config.optim.learning_rate,
        shrink=config.optim.shrink,
        decay=config.ema.decay,
        num_classes=run.source.num_classes,
        batch_size=args.batch,
        num_workers=args.workers,
    )


def in_torch(prefix: str, *trees: core.PyTree) -> dict[str, np.ndarray]:
    """Flattens trees of our network to PyTorch's names and layouts."""
    leaves = {}
    for tree in trees:
        for (*path, leaf), value in traverse_util.flatten_dict(tree).items():
            value = np.asarray(value)
            if leaf == "kernel":
                value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            path = [p for p in path if p not in ("backbone", "dense")]
            path = ["blocks", *path] if path[0].startswith("block") else path
            leaf = {"mean": "running_mean", "var": "running_var", "bias": "bias"}.get(
                leaf, "weight"
            )
            name = ".".join([*path, leaf]).removeprefix("classifier_")
            leaves[f"{prefix}/{name}"] = value
    return leaves


# --- the sides ------------------------------------------------------------------------------------


class Given(NamedTuple):
    """Views that are there already: what stands in the place of the resident images."""

    def __call__(self, raw, resident, key, step):
        """Returns the views."""
        return resident


class Ours:
    """Our step and its state, with our feed, or on given views; several steps at once."""

    def __init__(self, run: experiment.Plan, views: core.Batch | None, at_once: int = 1):
        self._run = run if views is None else dataclasses.replace(run, views=Given())
        self._at_once = at_once
        self._step = run.runner.map(
            many(experiment.train_step(self._run)), batch_axis=1, num_shared=1, donate_state=True
        )
        self._state = run.runner.replicate(start(run))
        feed = experiment.training_feed(run, 0)
        self._batches = experiment.stacks(run, feed, 0, at_once)
        self._resident = run.runner.replicate(feed.resident if views is None else views)

    def __call__(self, num_steps: int):
        """Makes steps; returns the metrics of the last one."""
        for _ in range(num_steps // self._at_once):
            self._state, metrics = self._step(self._state, next(self._batches), self._resident)
        return metrics

    def record(self) -> dict[str, np.ndarray]:
        """Makes the first step, and returns all that it computed, by name."""
        with jax.default_matmul_precision("highest"):
            found = {name: np.asarray(value) for name, value in self(1).items()}
        state = self._state
        gradients = jax.tree.map(lambda m: m / 0.1, state.opt_state[0].mu)
        found |= in_torch("gradient", gradients)
        found |= in_torch("online", state.params, state.batch_stats)
        return found | in_torch("average", state.ema.params, state.ema.batch_stats)


# --- comparing ------------------------------------------------------------------------------------


def checked(ours: Ours, torch: Mapping[str, Torch], directory: pathlib.Path) -> dict[str, Any]:
    """Makes one step on every side; ends the program unless they agree."""
    start = np.load(directory / "job.npz")
    mine = ours.record()
    result = {}
    for style, side in torch.items():
        path = directory / f"{style}.npz"
        equal_pixels = side.ask(f"check {path}")["equal_pixels"]
        worst = deviations(mine, dict(np.load(path)), start)
        result[style] = dict(equal_pixels=equal_pixels, deviations=worst)
        shown = ", ".join(f"{kind} {size:.0e} ({where})" for kind, (size, where) in worst.items())
        print(f"{style}: first step deviates by {shown}; equal pixels {equal_pixels:.4f}")
        beyond = [kind for kind, tolerance in TOLERANCES.items() if worst[kind][0] > tolerance]
        if beyond or equal_pixels < EQUAL_PIXELS:
            raise SystemExit(f"{style} and ours are not the same step: {beyond or 'pixels'}")
    return result


def deviations(mine: Mapping, other: Mapping, start: Mapping) -> dict[str, tuple[float, str]]:
    """Returns, by kind, the largest deviation and where it is."""
    worst = dict.fromkeys(TOLERANCES, (0.0, ""))
    for name, value in other.items():
        kind, _, rest = name.partition("/")
        has_moved = kind in ("online", "average")
        size = _median if has_moved else np.linalg.norm
        mine_now = mine[name].astype(np.float64)
        change = size(mine_now - start[f"start/{rest}"] if has_moved else mine_now)
        if change == 0:
            raise SystemExit(f"{name} is zero, or did not move: the check would check nothing")
        worst[kind] = max(worst[kind], (float(size(value - mine_now) / change), rest))
    return worst


def _median(values):
    return np.median(np.abs(values))


def timed(works: Mapping[str, Callable], torch, rounds: int, num_steps: int) -> dict[str, Any]:
    """Times all sides in turns: per step, seconds, CPU seconds, and how much faster ours is."""
    cpu = {name: [] for name in (*works, "ours, waiting")}
    clocks = {"ours": time.process_time} | {name: t.cpu_seconds for name, t in torch.items()}

    def metered(name):
        def work():
            before, mine = clocks[name](), time.process_time()
            result = jax.block_until_ready(works[name]())
            cpu[name].append((clocks[name]() - before) / num_steps)
            if name != "ours":
                cpu["ours, waiting"].append((time.process_time() - mine) / num_steps)
            return result

        return work

    times = harness.in_turns({name: metered(name) for name in works}, rounds=rounds)
    # The first round was the warm-up.
    cpu = {name: values[len(values) // (rounds + 1) :] for name, values in cpu.items()}
    seconds = {name: (np.array(t) / num_steps).tolist() for name, t in times.items()}
    ratios = {name: harness.ratio(seconds[name], seconds["ours"]) for name in torch}
    return dict(seconds=seconds, cpu_seconds=cpu, torch_over_ours=ratios)


def table(what: str, evidence: Mapping[str, Any]) -> str:
    """Lays the medians out."""
    lines = [
        f"\n{what}: medians per step",
        "| | seconds | CPU seconds | PyTorch / ours |",
        "|---" * 4,
    ]
    for name, seconds in evidence["seconds"].items():
        ratio = evidence["torch_over_ours"].get(name)
        faster = "{median:.2f} ({low:.2f} – {high:.2f})".format(**ratio) if ratio else ""
        cpu = np.median(evidence["cpu_seconds"][name])
        lines.append(f"| {name} | {np.median(seconds):.4f} | {cpu:.4f} | {faster} |")
    waiting = np.median(evidence["cpu_seconds"]["ours, waiting"])
    return "\n".join([*lines, f"CPU seconds that ours used while PyTorch ran: {waiting:.4f}"])


if __name__ == "__main__":
    main()
