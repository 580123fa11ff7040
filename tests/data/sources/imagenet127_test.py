import importlib.util
import pathlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data import sources
from ltssl_jax.data.sources import imagenet127

NOISE = np.random.default_rng(2).integers(0, 256, (8, 9, 9, 3), np.uint8)
FIRST = ("soft-finned fish", "shark", "ray", "bird", "salamander")
LAST = ("participant", "flower", "fungus", "fruit", "tissue")
needs_tfds = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None
    or importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow Datasets is not installed",
)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "train/n07684084/b.png", NOISE[0])  # French loaf
    save(tmp_path / "train/n01440764/a.png", NOISE[1])  # tench
    save(tmp_path / "train/n01443537/a.png", NOISE[2])  # goldfish
    save(tmp_path / "train/n01443537/b.png", NOISE[3][:8])
    save(tmp_path / "val/n01440764/x.png", NOISE[4])
    save(tmp_path / "val/n02129165/x.png", NOISE[5])  # lion
    return tmp_path


def load(root, **options):
    return sources.load("imagenet127", root=str(root), **options)


def test_the_groups_are_the_published_ones():
    groups = imagenet127.groups()
    names = tuple(dict.fromkeys(groups.values()))
    assert len(groups) == 1000 and len(names) == 127
    assert names[:5] == FIRST and names[-5:] == LAST
    sizes = Counter(groups.values())
    assert sizes.most_common(3) == [("mammal", 218), ("device", 124), ("container", 92)]
    assert sum(size == 1 for size in sizes.values()) == 65
    assert all(len(wnid) == 9 and wnid[0] == "n" and wnid[1:].isdigit() for wnid in groups)
    known = {
        "n02606052": "butterfly fish",  # rock beauty, with 969 images the rarest
        "n02124075": "mammal",  # Egyptian cat
        "n02084071": None,  # dog is no class
        "n03617480": "garment",  # kimono: a robe, below garment
        "n02504458": "mammal",  # African elephant
    }
    for wnid, group in known.items():
        assert groups.get(wnid) == group, wnid


def published_classes():
    """The classes of `imagenet_resized` in the order of their numbers, which is not sorted."""
    found = importlib.util.find_spec("tensorflow_datasets").submodule_search_locations[0]
    labels = pathlib.Path(found, "image_classification/imagenet_resized_labels.txt")
    return labels.read_text().split()


@needs_tfds
def test_the_classes_are_those_of_tensorflow_datasets():
    assert sorted(published_classes()) == sorted(imagenet127.groups())


def test_directories_are_merged(root):
    source = load(root, image_size=4)
    assert source.name == "imagenet127" and source.num_classes == 127
    assert source.train.names == (
        *("train/n01440764/a.png", "train/n01443537/a.png", "train/n01443537/b.png"),
        "train/n07684084/b.png",
    )
    assert source.train.labels.tolist() == [0, 0, 0, 109]
    mammal = source.class_names.index("mammal")
    assert source.test.labels.tolist() == [0, mammal] and source.val is None
    assert source.train.image_shape == (4, 4, 3)
    assert source.notes[0].startswith("125 of 127 classes have no labeled image")


def test_what_is_no_imagenet_is_named(root):
    with pytest.raises(InputError, match="images differ in size"):
        load(root)
    with pytest.raises(InputError, match="data.source.test is 'x', which means nothing"):
        load(root, test="x")
    save(root / "val/cats/x.png", NOISE[6])
    with pytest.raises(InputError, match="val has a directory 'cats', which is no class of Ima"):
        load(root, image_size=4)


@needs_tfds
@pytest.mark.tf
def test_the_resized_set_is_merged_by_name(tmp_path):
    import tensorflow_datasets as tfds

    classes = published_classes()
    wnids = ["n02119789", "n01440764", "n07684084", "n01443537", "n02119789", "n01440764"]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=classes),
        }
    )
    images = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), np.uint8)
    rows = {
        part: [(i, dict(image=images[i], label=classes.index(wnids[i]))) for i in positions]
        for part, positions in (("train", range(4)), ("validation", range(4, 6)))
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        "imagenet_resized",
        "0.1.0",
        features,
        rows,
        data_dir=str(tmp_path),
        config="32x32",
        disable_shuffling=True,
    )
    source = load(tmp_path)
    mammal = source.class_names.index("mammal")
    assert (source.name, source.num_classes) == ("imagenet127", 127)
    assert source.train.labels.tolist() == [mammal, 0, 109, 0]
    assert source.test.labels.tolist() == [mammal, 0]
    np.testing.assert_array_equal(source.train.read(np.array([2])), images[[2]])
    with pytest.raises(InputError, match="image_size is 48; it must be one of"):
        load(tmp_path, image_size=48)
    with pytest.raises(InputError, match="'imagenet_resized/64x64' is not in"):
        load(tmp_path, image_size=64)
