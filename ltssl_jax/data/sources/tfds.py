"""Image-classification sets of TensorFlow Datasets, by name: `cifar10`, `cifar100`, `svhn_cropped`.

Any set with the splits `train` and `test` and the features `image` (uint8) and `label` will do. The
images are decoded once, at loading, and kept in memory; larger sets belong in folders.

The order is the one in which the set was prepared, which shuffles it once, the same everywhere: the
first n images of a class are not those of the original files. Counts agree with published splits,
images do not; a folder in the original order gives the originals.
"""

import numpy as np
from PIL import Image

from ltssl_jax.core import InputError
from ltssl_jax.data.sources.base import Records, Source, fit, import_tensorflow, in_memory


def load(*, name: str, root: str, image_size: int, download: bool) -> Source:
    """Reads the set `name` from `root`, or from where TensorFlow Datasets keeps it by default.

    Raises:
      InputError: the set is unknown or not there, or does not have images and labels as above.
    """
    builder = _builder(name, root, download)
    _check_layout(builder.info)
    height, width, channels = builder.info.features["image"].shape
    if not image_size and None in (height, width):
        raise InputError(
            f"the images of {name!r} differ in size; set data.image_size, for example to 32"
        )
    shape = (image_size or height, image_size or width, channels or 3)
    return Source(
        name=name,
        train=_read(builder, "train", shape),
        test=_read(builder, "test", shape),
        class_names=tuple(builder.info.features["label"].names),
    )


def _builder(name: str, root: str, download: bool):
    if not name:
        raise InputError("data.name is empty; the source 'tfds' needs one, such as cifar10")
    import_tensorflow("the source 'tfds'")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root or None)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise InputError(
            f"data.name is {name!r}, which TensorFlow Datasets does not know; "
            "see https://www.tensorflow.org/datasets/catalog for the names"
        ) from error
    if download:
        _download(builder)
    elif not builder.is_prepared():
        raise InputError(
            f"data set {name!r} is not in {builder.data_dir}; download it with "
            "--config.data.download=True, or read images from a directory with "
            "--config.data.source=folder --config.data.root=DIR"
        )
    return builder


def _download(builder) -> None:
    try:
        builder.download_and_prepare()
    except OSError as error:
        raise InputError(
            f"data set {builder.name!r} could not be downloaded to {builder.data_dir} ({error}); "
            "read images from a directory with --config.data.source=folder --config.data.root=DIR"
        ) from error


def _check_layout(info) -> None:
    missing = [part for part in ("train", "test") if part not in info.splits]
    missing += [key for key in ("image", "label") if key not in info.features]
    if missing or info.features["image"].dtype != np.uint8:
        raise InputError(
            f"data set {info.name!r} cannot be used (missing: {', '.join(missing) or 'nothing'}); "
            "it must have the splits train and test and the features image (uint8) and label"
        )


def _read(builder, part: str, shape: tuple[int, int, int]) -> Records:
    import tensorflow_datasets as tfds

    # One file after the other: the order of the images is that in which the set was prepared.
    order = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = builder.as_dataset(split=part, shuffle_files=False, read_config=order)
    num_images = builder.info.splits[part].num_examples
    images, labels = np.empty((num_images, *shape), np.uint8), np.empty(num_images, np.int32)
    for row, example in enumerate(tfds.as_numpy(dataset)):
        images[row] = _resized(example["image"], shape)
        labels[row] = example["label"]
    return in_memory(images, labels)


def _resized(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    if image.shape == shape:
        return image
    image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.asarray(fit(image, shape[0])).reshape(shape)
