"""One data set in four forms: the same split, and the same batches.

CIFAR-100 as image files, if it is there: the first classes, or with LTSSL_ALL_CLASSES=1 all 100.
"""

import csv
import importlib.util
import os
import pathlib
import tarfile

import jax
import numpy as np
import pytest

from ltssl_jax import defaults
from ltssl_jax.data import feed, opening

ARCHIVE = pathlib.Path(__file__).parents[3] / "shared/data/cifar100-webp.tar.gz"
NUM_CLASSES = 100 if os.environ.get("LTSSL_ALL_CLASSES") else 4
NUM_BATCHES = 100
KINDS = ("folder", "manifest", "arrays", "tfds")

pytestmark = [
    pytest.mark.tf,
    pytest.mark.whole,
    pytest.mark.skipif(not ARCHIVE.exists(), reason="CIFAR-100 as image files is not there"),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_datasets") is None,
        reason="TensorFlow Datasets is not installed",
    ),
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Writes the four forms; paths by kind."""
    folder = tmp_path_factory.mktemp("folder")
    names, chosen = [], []
    with tarfile.open(ARCHIVE, "r|gz") as archive:  # in one go: its members are sorted
        for member in archive:
            if member.name.endswith(".webp"):
                name = member.name.split("/")[1]
                if name not in chosen and len(chosen) < NUM_CLASSES:
                    chosen.append(name)
                if name in chosen:
                    archive.extract(member, folder, filter="data")
                    names.append(member.name)
    images = read(defaults.source("folder", root=str(folder)))
    arrays = tmp_path_factory.mktemp("arrays") / "cifar.npz"
    np.savez(arrays, class_names=chosen, **images)
    write_tfds(root := tmp_path_factory.mktemp("tfds"), images, chosen)
    return dict(folder=folder, manifest=table(folder, names), arrays=arrays, tfds=root)


def read(source):
    """Decodes all images of a source."""
    found = opening.sources.load(source["kind"], root=source["root"])
    parts = {"train": found.train, "test": found.test}
    images = {f"{n}_images": records.read(np.arange(len(records))) for n, records in parts.items()}
    return images | {f"{name}_labels": records.labels for name, records in parts.items()}


def table(folder, names):
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        rows = [(name, *name.split("/")[:2][::-1]) for name in names]
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return path


def write_tfds(root, images, class_names):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=class_names),
        }
    )
    rows = {
        part: [
            (i, dict(image=image, label=label))
            for i, (image, label) in enumerate(
                zip(images[f"{part}_images"], images[f"{part}_labels"].tolist(), strict=True)
            )
        ]
        for part in ("train", "test")
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        "cifar", "1.0.0", features, rows, data_dir=root, disable_shuffling=True
    )


def opened(kind, root):
    name = "cifar" if kind == "tfds" else ""
    config = defaults.base().data
    config.source = defaults.source(kind, root=str(root), name=name)
    config.split.update(num_max=200, label_fraction=0.4, imbalance_ratio=20.0, overlap=True)
    return opening.opened(config.source.to_dict(), config.split.to_dict())


def batches(source, split, kind="resident"):
    """Yields the first steps with their images, whichever way these travel."""
    fed = feed.training(source.train, split, batch_size=64, mu=1, seed=3, kind=kind)
    for _, raw in zip(range(NUM_BATCHES), fed.batches, strict=False):
        for stream in ("labeled", "unlabeled"):
            part, images = getattr(raw, stream), getattr(fed.resident, stream)
            if part.image is None:
                raw = raw.replace(**{stream: part.replace(image=images[part.index])})
        yield raw


def test_four_forms_of_one_data_set_train_alike(roots):
    sources, splits = zip(*(opened(kind, roots[kind]) for kind in KINDS), strict=True)
    assert {source.class_names for source in sources} == {sources[0].class_names}
    assert {split.fingerprint for split in splits} == {splits[0].fingerprint}
    for source in sources:
        np.testing.assert_array_equal(source.test.labels, sources[0].test.labels)
    runs = [batches(source, split) for source, split in zip(sources, splits, strict=True)]
    runs.append(batches(sources[0], splits[0], kind="tfdata"))
    count = 0
    for first, *others in zip(*runs, strict=True):
        count += 1
        for other in others:
            jax.tree.map(np.testing.assert_array_equal, other, first)
    assert count == NUM_BATCHES
