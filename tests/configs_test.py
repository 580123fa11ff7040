"""Every file of `configs/`: what it says, the split it asks for, two steps of it on fake data."""

import dataclasses
import functools
import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltssl_jax import defaults, experiment, planning, setups, stages
from ltssl_jax.data import opening
from ltssl_jax.data.sources import Records, Source, load
from ltssl_jax.training.step import many
from tests.methods import every

CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))

# Training images of each class of the real data sets.
CLASS_SIZES = {
    "cifar10": [5000] * 10,
    "cifar100": [500] * 100,
    "svhn_cropped": [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659],
}
C10_500 = [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
C10_1000 = [1000, 599, 359, 215, 129, 77, 46, 27, 16, 10]
C10_4000 = [4000, 2397, 1437, 861, 516, 309, 185, 111, 66, 40]
# As published: labeled and unlabeled counts by class, or for 100 classes first, last and total; and
# whether the first images of each class are taken, whatever the seed.
C10_1500 = [1500, 899, 539, 323, 193, 116, 69, 41, 25, 15]
C10_3000 = [3000, 1798, 1078, 646, 387, 232, 139, 83, 50, 30]
C10_500_4000 = [4500, 2696, 1616, 968, 580, 347, 208, 124, 74, 45]  # overlap: sums
C10_1500_3000 = [4500, 2697, 1617, 969, 580, 348, 208, 124, 75, 45]
C10_TENTH = [500, 300, 180, 108, 65, 39, 24, 14, 9, 5]
C10_WHOLE = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
C100_150, C100_300 = [150, 15, 5835], [300, 30, 11720]  # ratio 10
C100_50_400 = [450, 45, 1911 + 15651]
PUBLISHED = {
    "tras_cifar10": (C10_1000, C10_4000, True),
    "tras_svhn": (C10_1000, [3948, *C10_4000[1:]], True),
    "tras_cifar100": ([200, 10, 6333], [200 + 300, 10 + 15, 6333 + 9527], True),  # overlap
    "fixmatch_cifar10": (C10_500, C10_4000, False),
    "abc_cifar10": (C10_1000, C10_4000, True),
    "acr_cifar10": (C10_500, C10_500_4000, True),
    "adsh_cifar10": (C10_1500, C10_3000, False),
    "ccl_cifar10": (C10_500, C10_500_4000, True),
    "cdmad_cifar10": (C10_1500, C10_1500_3000, True),
    "cossl_cifar10": (C10_1500, C10_1500_3000, False),
    "cpe_cifar10": (C10_1500, C10_3000, False),
    "crest_cifar10": (C10_TENTH, C10_WHOLE, False),
    "darp_cifar10": (C10_1500, C10_1500_3000, True),
    "daso_cifar10": (C10_1500, C10_3000, False),
    "debiaspl_cifar10": (C10_1500, C10_1500_3000, True),
    "dml_pl_cifar10": (C10_1500, C10_3000, False),
    "flexmatch_cifar10": (C10_500, C10_4000, False),
    "freematch_cifar10": (C10_500, C10_4000, False),
    "mean_teacher_cifar10": (C10_500, C10_4000, False),
    "mixmatch_cifar10": (C10_1500, C10_3000, True),
    "remixmatch_cifar10": (C10_1500, C10_3000, False),
    "saw_cifar10": (C10_1500, C10_1500_3000, True),
    "self_training_cifar10": (C10_1500, C10_3000, False),
    "semi_cifar10": (C10_1500, C10_1500_3000, True),
    "simpro_cifar10": (C10_500, C10_4000, True),
    "softmatch_cifar10": (C10_500, C10_4000, False),
    "uda_cifar10": (C10_500, C10_4000, False),
    "rotation_cifar10": (C10_WHOLE, C10_WHOLE, False),  # overlap with an empty pool
    "supervised_cifar10": (C10_500, C10_4000, False),
    "abc_cifar100": ([200, 10, 6333], [200 + 300, 10 + 15, 6333 + 9527], True),
    "acr_cifar100": ([50, 5, 1911], C100_50_400, True),
    "adsh_cifar100": (C100_150, C100_300, False),
    "ccl_cifar100": ([50, 5, 1911], C100_50_400, True),
    "cdmad_cifar100": ([150, 7, 4741], [150 + 300, 7 + 15, 4741 + 9527], False),
    "cossl_cifar100": ([150, 7, 4741], [150 + 300, 7 + 15, 4741 + 9527], False),
    "cpe_cifar100": (C100_150, C100_300, False),
    "darp_cifar100": ([300, 15, 9527], [150, 7, 4741], True),
    "daso_cifar100": (C100_150, C100_300, False),
    "fixmatch_cifar100": (C100_150, C100_300, False),
    "mixmatch_cifar100": ([300, 15, 9527], [150, 7, 4741], True),
    "remixmatch_cifar100": (C100_150, C100_300, False),
    "rotation_cifar100": ([500, 5, 10847], [500, 5, 10847], False),
    "saw_cifar100": ([150, 1, 3218], [150 + 300, 1 + 3, 3218 + 6486], True),
    "semi_cifar100": (C100_150, [150 + 300, 15 + 30, 5835 + 11720], True),
    "simpro_cifar100": ([50, 2, 1545], [400, 20, 12719], True),
    "supervised_cifar100": (C100_150, C100_300, False),
}


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def colours(labels):
    """Fake 32 x 32 images that take no memory: one of eight, whatever the class."""
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    return Records(labels, lambda positions: images[np.asarray(positions) % 8], (32, 32, 3))


def fake_source(kind, *, name, **settings):
    """The bundled digits as they are; sets to be downloaded with true class sizes only."""
    if kind == "digits":
        return load(kind, name=name, **settings)
    if kind == "auto":  # a few labels and a pool
        labels = np.array([0] * 8 + [1] * 3 + [2] + [-1] * 20, np.int32)
        return Source(name, colours(labels), colours(labels[:12]), ("a", "b", "c"))
    num_classes = len(CLASS_SIZES[name])
    labels = np.repeat(np.arange(num_classes, dtype=np.int32), CLASS_SIZES[name])
    test = np.arange(num_classes, dtype=np.int32)
    names = tuple(f"class {k}" for k in range(num_classes))
    return Source(name, colours(labels), colours(test), names)


@functools.cache
def weights(model, image_shape):
    """Shapes of the weights of a network, once for all methods that have the same."""
    image = jnp.zeros((1, *image_shape))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image, False))


def distinct_stages(config):
    """The configuration of every stage; one that is repeated differs in numbers alone."""
    return dict(zip(config.stages.order or [""], stages.check(config), strict=True)).values()


def said(block):
    """What is said in words, which decide what a step consists of; no numbers."""
    return tuple(x for x in jax.tree.leaves(block.to_dict()) if isinstance(x, str | bool))


TRIED = {every.kind(method) for _, method in every.examples()}  # by the trials of all methods
TRACED = set()  # what the steps of the files before this one are made of, but for the method


def is_traced_elsewhere(run):
    """Is the method tried by itself, and the rest of the step another file's, but for numbers?"""
    rest = (run.config.model.name, said(run.config.optim), said(run.config.ema))
    rest += (run.config.parallel.mode, run.start.weights is None, run.method.needs.balanced)
    is_known = rest in TRACED
    TRACED.add(rest)
    return is_known and every.kind(run.method) in TRIED


@pytest.fixture(autouse=True)
def fake_data(monkeypatch):
    monkeypatch.setattr(opening.sources, "load", fake_source)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_it_says_when_it_was_written_and_how_to_run_it(path):
    note = module(path).__doc__
    assert re.search(r"\b20\d\d-[01]\d-[0-3]\d\b", note.splitlines()[0])
    command = rf"^python -m ltssl_jax.main --config configs/{path.name} --workdir runs/\S+"
    assert re.search(command, note, re.M)


def test_every_field_and_type_can_be_overridden(path):
    """Config flags refuse lists and `None`, and the base must hold every field."""
    config, base = module(path).get_config(), defaults.base()
    assert set(config) == set(base)
    assert set(config.stages.order) <= set(config.stages)
    for block in ("data", "train", "parallel", "ema"):
        assert set(config[block]) == set(base[block])
    assert set(config.data.split) == set(defaults.split())


def test_the_split_is_the_published_one(path):
    run = experiment.plan(module(path).get_config())
    if run.source.name == "digits":
        # Ours, one for all configs on digits, so that their numbers compare; no digit goes unused.
        assert run.config.data.split.to_dict() == setups.digits().data.split.to_dict()
        assert run.split.labeled_counts.sum() + run.split.unlabeled_counts.sum() == 1297
        return
    if path.stem == "own_images":
        assert run.split.labeled_counts.tolist() == [8, 3, 1] and len(run.split.unlabeled) == 20
        return
    labeled, unlabeled, takes_first = PUBLISHED[path.stem]
    for counts, published in (
        (run.split.labeled_counts.tolist(), labeled),
        (run.split.unlabeled_counts.tolist(), unlabeled),
    ):
        assert published in (counts, [counts[0], counts[-1], sum(counts)])
    first = np.arange(labeled[0])
    assert np.array_equal(run.split.labeled[: labeled[0]], first) == takes_first
    weights(run.model, run.source.train.image_shape)  # the network can be built, too
    jax.eval_shape(lambda: run.method.init(run.problem))


def test_a_step_of_every_stage_can_be_traced(path):
    """Shapes and types of everything in a step fit; compiling it is what takes long."""
    state = None
    for stage in distinct_stages(defaults.smoke(module(path).get_config())):
        start = planning.Start(weights=state) if stage.optim.is_frozen else None
        run = experiment.plan(stage, start=start)
        batches = experiment.training_feed(run, 0)
        batch = next(experiment.stacks(run, batches, 0, 1))
        fresh = dataclasses.replace(run, start=planning.Start())  # weights of shapes alone are none
        state = jax.eval_shape(lambda fresh=fresh: experiment.initial_state(fresh))
        if is_traced_elsewhere(run):  # left are the views that the method gets here
            shard = jax.tree.map(lambda x: x[0, 0], batch)
            jax.eval_shape(run.views, shard, batches.resident, jax.random.key(0), 0)
            continue
        step = many(experiment.train_step(run))
        step = run.runner.map(step, batch_axis=1, num_shared=1)
        after, metrics = jax.eval_shape(step, state, batch, batches.resident)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert metrics["loss"].shape == ()


@pytest.mark.whole
@pytest.mark.parametrize("name", ["tras_cifar100", "own_images"])
def test_two_steps_train_on_fake_data(name, tmp_path):
    config = defaults.smoke(module(CONFIGS[0].with_stem(name)).get_config())
    config.parallel.num_devices = 1  # compiles sooner
    result = experiment.train(config, tmp_path, is_quiet=True)
    assert result["step"] == 2
    assert all(np.isfinite(value) for value in result["test"]["recall_per_class"].values())
