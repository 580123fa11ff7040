"""Views per second: ours on the device, beside Pillow on one core and `tf.data` on all of them.

python benchmarks/augment.py --json benchmarks/results/augment_cpu.json

Makes the weak and the strong view of the recipe `tras` of one batch of images, and one step's worth
of views (64 labeled weak, 64 unlabeled weak, 128 strong) by three means:

- ours, compiled, images and views in the device's memory, random numbers included;
- Pillow (`pillow_views.py`), one image after the other on one core. Before anything is timed, its
  views are compared with ours made from the same random numbers, image by image;
- `tf.data` with TensorFlow's own operations (`tf_views.py`; it lacks two of the sixteen), where
  TensorFlow is installed.

"faster" is the ratio of wall times, which for Pillow is also the number of cores it would take to
keep up. Where the device is the CPU itself, "a core" is the ratio of CPU times: the compiled code
may use several cores. `--parts` shows where our time goes, each function compiled by itself.
"""

import functools
import time

import harness
import jax
import jax.numpy as jnp
import numpy as np
import pillow_views
from PIL import Image

from ltssl_jax import core, defaults
from ltssl_jax.augment import colour, geometry, randaugment, views

try:
    import tf_views
except ImportError:
    tf_views = None

STEP = 64  # labeled, and unlabeled, images of a step
TRAS = views.make("tras", needs=core.Needs(heads=(), strong=2), **defaults.CIFAR100)


def main():
    """Compares the views, then the speeds."""
    args = parse()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.batch, args.size, args.size, 3), np.uint8)
    same = agreement(images[:256], rng)
    for name, text in same.items():
        print(f"{name:16}{text}", flush=True)
    rows = [
        row
        for view, systems in contestants(images, rng).items()
        for row in measured(view, systems, args.rounds)
    ]
    print(table(rows))
    parts = part_times(images, rng, args.rounds) if args.parts else {}
    for name, micros in parts.items():
        print(f"{name:24}{micros:8.2f} us an image")
    settings = dict(
        batch=args.batch, size=args.size, missing_in_tf=getattr(tf_views, "MISSING", ())
    )
    harness.store(args.json, settings | dict(agreement=same, rows=rows, parts=parts))


def parse():
    """Reads the command line."""
    parser = harness.parser(__doc__)
    parser.add_argument("--batch", type=int, default=512, help="images of a weak or strong batch")
    parser.add_argument("--size", type=int, default=32, help="height and width of the images")
    parser.add_argument("--parts", action="store_true", help="time the parts of ours, too")
    return parser.parse_args()


# --- the same work: ours and Pillow's from the same random numbers --------------------------------


def agreement(images, rng):
    """Says how many images come out the same, per view and for each operation by itself."""
    uniforms = rng.random((len(images), pillow_views.STRONG_DRAWS), np.float32)
    for_weak = uniforms[:, : pillow_views.WEAK_DRAWS]
    level = 1 / (255 * pillow_views.STD)
    weak = with_pillow(pillow_views.weak_view, images, for_weak)
    strong = with_pillow(pillow_views.strong_view, images, uniforms)
    return {
        "weak views": alike(weak_of(images, for_weak), weak, level=level),
        "strong views": alike(strong_of(images, uniforms), strong, level=level),
        **one_by_one(images[:32], uniforms[:32, :2]),
    }


def one_by_one(images, where):
    """Compares each of the sixteen operations."""
    apply = jax.jit(functools.partial(randaugment.apply_op, level=pillow_views.LEVEL))
    texts = {}
    for number, name in enumerate(randaugment.OPS):
        ours = apply(images, jnp.full(len(images), number), where=where)
        theirs = with_pillow(
            lambda image, place, number=number: pillow_views.apply_op(image, number, place),
            images,
            where,
        )
        texts[name] = alike(ours, theirs, level=1)
    return texts


def alike(ours, theirs, *, level):
    """Counts images that are equal; `level` is what one of the 256 grey levels is worth."""
    levels = np.abs(np.asarray(ours, np.float32) - theirs) / level
    largest = levels.max(axis=(1, 2, 3))
    text = f"{np.sum(largest < 0.01)} of {len(largest)} equal"
    return text + (
        f", the others within {largest.max():.2g} levels" if largest.max() >= 0.01 else ""
    )


def with_pillow(view, images, uniforms):
    """Makes Pillow's views of images in memory, one after the other, and stacks them."""
    rows = zip(images, uniforms, strict=True)
    return np.stack([np.asarray(view(Image.fromarray(image), row)) for image, row in rows])


@jax.jit
def weak_of(images, uniforms):
    """Makes our weak views from given uniforms."""
    return TRAS.recipe.weak.apply(images, uniforms, normalize=TRAS.evaluation)


@jax.jit
def strong_of(images, uniforms):
    """Makes our strong views from given uniforms."""
    return TRAS.recipe.strong.apply(images, uniforms, normalize=TRAS.evaluation)


# --- speed ----------------------------------------------------------------------------------------


def contestants(images, rng):
    """Returns by view, then by system: number of views, and what makes them."""
    num, few = len(images), np.resize(images, (2 * STEP, *images.shape[1:]))
    found = {
        "weak": {"ours": (num, ours_of(weak_of, images, pillow_views.WEAK_DRAWS))},
        "strong": {"ours": (num, ours_of(strong_of, images, pillow_views.STRONG_DRAWS))},
        "step": {"ours": (4 * STEP, ours_in_a_step(images))},
    }
    others = {"Pillow, one core": (1, functools.partial(pillow_of, rng=rng), pillow_views)}
    if tf_views:
        others["tf.data"] = (tf_views.PASSES, tf_of, tf_views)
    for name, (passes, make, module) in others.items():
        found["weak"][name] = (passes * num, make(module.weak, images))
        found["strong"][name] = (passes * num, make(module.strong, images))
        halves = make(module.weak, few), make(module.strong, few)
        found["step"][name] = (
            passes * 4 * STEP,
            lambda halves=halves: [half() for half in halves],
        )
    return found


def ours_of(view, images, draws):
    """Returns a compiled maker of one view that draws its own random numbers."""
    images, key = jnp.asarray(images), jax.random.key(0)

    @jax.jit
    def make(images, key):
        return view(images, jax.random.uniform(key, (len(images), draws)))

    return lambda: make(images, key)


def ours_in_a_step(images):
    """Returns a maker of all views of a step, as the train step makes them from resident images."""
    slot = jnp.arange(STEP)
    stream = core.Stream(index=slot, slot=slot, image=None, label=slot)
    raw = core.RawBatch(labeled=stream, unlabeled=stream)
    resident = core.Resident(labeled=jnp.asarray(images), unlabeled=jnp.asarray(images))
    make, key = jax.jit(TRAS), jax.random.key(0)
    return lambda: make(raw, resident, key, jnp.int32(0))


def pillow_of(view, images, *, rng):
    """Returns a maker of one view with Pillow."""
    return lambda: np.stack([view(Image.fromarray(image), rng) for image in images])


def tf_of(view, images):
    """Returns a maker of one view with `tf.data`."""
    dataset = tf_views.dataset(images, view)
    return lambda: [batch.numpy() for batch in dataset]


def measured(view, systems, rounds):
    """Times the systems in turns; one row each."""
    spent = {name: [] for name in systems}
    works = {name: metered(work, spent[name]) for name, (_, work) in systems.items()}
    times = harness.in_turns(works, rounds=rounds)
    wall = {name: np.divide(times[name], num) for name, (num, _) in systems.items()}
    cpu = {name: np.divide(spent[name][1:], num) for name, (num, _) in systems.items()}
    return [
        dict(
            view=view,
            system=name,
            images_per_second=1 / np.median(wall[name]),
            wall_us=np.median(wall[name]) * 1e6,
            cpu_us=np.median(cpu[name]) * 1e6,
            ours_faster=harness.ratio(wall[name], wall["ours"]),
            ours_faster_a_core=harness.ratio(cpu[name], cpu["ours"]),
        )
        for name in systems
    ]


def metered(work, spent):
    """Notes the CPU seconds of each call, over all threads; the first is the warm-up's."""

    def run():
        began = time.process_time()
        made = jax.block_until_ready(work())
        spent.append(time.process_time() - began)
        return made

    return run


def part_times(images, rng, rounds):
    """Times each part of our views by itself, microseconds an image."""
    number = len(images)
    images, factor = jnp.asarray(images), jnp.asarray(rng.random(number, np.float32))
    op = jnp.asarray(rng.integers(0, 16, number))
    turned = geometry.about_centre(
        geometry.rotation(30 * factor), height=images.shape[1], width=images.shape[2]
    )
    draws = jnp.asarray(rng.random((number, 9), np.float32))
    parts = {
        "three operations": (three_operations, images, draws),
        "one operation": (one_operation, images, op, draws[:, :2]),
        "warp": (geometry.warp_nearest, images, turned),
        "auto contrast": (colour.auto_contrast, images),
        "equalize": (colour.equalize, images),
        "its histogram": (colour.histogram, images),
        "saturate": (colour.saturate, images, factor),
        "sharpen": (colour.sharpen, images, factor),
        "box": (black_box, images, factor),
        "crop": (functools.partial(geometry.crop, padding=4), images, op % 8, op % 8),
        "flip": (geometry.flip, images, op > 7),
        "normalize": (TRAS.evaluation, images),
    }
    compiled = {
        name: functools.partial(jax.jit(part), *arguments)
        for name, (part, *arguments) in parts.items()
    }
    times = harness.in_turns(compiled, rounds=rounds)
    return {name: float(np.median(taken)) / number * 1e6 for name, taken in times.items()}


def three_operations(images, draws):
    """Applies what a strong view starts with."""
    return randaugment.rand_augment(
        images, draws, num_ops=pillow_views.NUM_OPS, level=pillow_views.LEVEL
    )


def one_operation(images, op, where):
    """Applies one operation to each image."""
    return randaugment.apply_op(images, op, where=where, level=pillow_views.LEVEL)


def black_box(images, place):
    """Paints a box of eight pixels."""
    edges = dict(top=place, left=place, bottom=place + 8, right=place + 8)
    return geometry.fill_box(images, colour=jnp.zeros(3), **edges)


def table(rows):
    """Lays out the speeds."""
    is_cpu = jax.default_backend() == "cpu"
    lines = [
        f"{'view':8}{'by':18}{'images/s':>12}{'us/image':>10}{'CPU us':>9}"
        f"{'ours faster':>24}{'a core':>8}"
    ]
    for row in rows:
        faster, a_core = row["ours_faster"], row["ours_faster_a_core"]["median"]
        lines.append(
            f"{row['view']:8}{row['system']:18}{row['images_per_second']:12,.0f}"
            f"{row['wall_us']:10.2f}{row['cpu_us']:9.2f}"
            f"{faster['median']:9.2f} ({faster['low']:.2f} - {faster['high']:.2f})"
            + (f"{a_core:8.2f}" if is_cpu else "")
        )
    if tf_views is None:
        lines.append("tf.data: TensorFlow is not installed")
    else:
        lines.append(f"tf.data leaves out, in the strong view: {', '.join(tf_views.MISSING)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
