"""The scikit-learn face: a classifier of images in arrays, of which few have a label.

    model = LongTailedSSLClassifier("tras", steps=1000).fit(images, labels)  # -1: no label
    model.predict(others)

It writes the arrays to a directory, trains there by `stages.train` as the command does, and keeps
configuration and weights, nothing else. Whatever has no parameter of its own is in `settings`.
"""

import contextlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ltssl_jax import defaults, parallel, stages, trained
from ltssl_jax.core import InputError
from ltssl_jax.data import matrices, statistics
from ltssl_jax.data.sources import base
from ltssl_jax.evaluation.predictions import softmax

_SMALL = 32  # pixels below which images are shifted and turned only, and the network is small


class LongTailedSSLClassifier(ClassifierMixin, BaseEstimator):
    """Learns from few labeled images of unequally frequent classes, and from unlabeled ones.

    Images are `[N, H, W, C]`, `[N, H, W]` or flat, `[N, H * W]`, with 1, 3 or 4 channels last. They
    are uint8; anything else is brought to 0 ... 255 by the least and the greatest value of `fit`,
    and clipped there by `predict`, which warns of values on another scale.

    In `y`, -1 marks an image without label; with labels that are strings, it may be the number in
    an array of objects, or "-1". So no class can be called -1. Where every image has a label, the
    labeled images are the unlabeled ones, too.

    Folds of a cross-validation should hold labeled images only, for there is nothing to score on
    others: `sklearn.model_selection.PredefinedSplit` leaves images with -1 to the training. The
    estimator's own `score` does not count them.

    A fit compiles its network, which takes seconds however small it is; when it is repeated, its
    programs are found in the cache of JAX, which is `~/.cache/ltssl_jax/jax` if nobody has chosen
    another. It trains on one device; a pickle holds weights and configuration, for any process.

    Args:
      method: a file of `ltssl_jax.methods`, or `dict(name="tras", threshold=0.9)`; of one that is a
        loop over stages, the first stage.
      steps: updates; a method's epoch is a fiftieth of them.
      batch_size: labeled images a step.
      mu: unlabeled images per labeled one.
      learning_rate: of Adam.
      augment: recipe of `ltssl_jax.augment.views`. "auto": up to 31 pixels "digits", which mirrors
        nothing, else "tras", which does.
      network: a backbone of `ltssl_jax.models`, or `dict(name="wide_resnet", depth=28, width=2)`.
        "auto": up to 31 pixels "small_cnn", else "wide_resnet".
      image_shape: `(H, W)` or `(H, W, C)` of flat images that are not squares of one channel; one
        number may be -1, as in `numpy.reshape`.
      settings: further fields of the configuration, `{"ema.decay": 0.99}`; they come last.
      random_state: number, generator or None, as everywhere in scikit-learn.
      verbose: say what the command says.
      workdir: directory in which each fit keeps its run, under a name that its images, labels and
        settings determine. The same fit, with a number as `random_state`, continues there, or is
        done at once; reports can read it, but what they call test are training images. None keeps
        nothing.

    Attributes:
      classes_: `[K]` labels, sorted.
      n_features_in_: numbers per image.
      image_shape_: `(H, W, C)`.
      range_: what became 0 and 255.
      spread_: the greatest value of `fit` minus the least.
      network_: the `ltssl_jax.trained.Trained` network.

    >>> from sklearn.datasets import load_digits
    >>> images, labels = load_digits(return_X_y=True)
    >>> few = labels.copy()
    >>> few[300:] = -1
    >>> model = LongTailedSSLClassifier("fixmatch", steps=150, random_state=0).fit(images, few)
    >>> bool(model.score(images[300:], labels[300:]) > 0.8)
    True
    """

    def __init__(
        self,
        method: str | Mapping[str, Any] = "tras",
        *,
        steps: int = 1000,
        batch_size: int = 64,
        mu: int = 2,
        learning_rate: float = 0.002,
        augment: str = "auto",
        network: str | Mapping[str, Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        workdir: str | os.PathLike | None = None,
    ):
        self.method = method
        self.steps = steps
        self.batch_size = batch_size
        self.mu = mu
        self.learning_rate = learning_rate
        self.augment = augment
        self.network = network
        self.image_shape = image_shape
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose
        self.workdir = workdir

    def fit(self, X: Any, y: Any) -> "LongTailedSSLClassifier":
        """Trains.

        Args:
          X: images.
          y: `[N]` labels, numbers or strings; -1 for an image without.

        Raises:
          ValueError: something given cannot work; of ours it is an `InputError`.
          KeyboardInterrupt: the training was interrupted; if it has a `workdir` and a number as
            `random_state`, the same fit continues there.
        """
        rows, shape = matrices.flat(X)
        rows, y = validate_data(self, rows, y)
        self.image_shape_ = matrices.image_shape(shape, self.image_shape)
        self.range_, self.spread_ = matrices.range_of(rows), matrices.spread_of(rows)
        self.classes_, numbers = matrices.numbered(y)
        check_classification_targets(self.classes_[numbers[numbers >= 0]])
        images = matrices.to_bytes(rows, *self.range_).reshape(-1, *self.image_shape_)
        config = self._config(images, numbers)
        parallel.choose_convolutions(os.environ, importlib.metadata.version("jaxlib"))
        parallel.keep_compilations()
        names = [str(c) for c in self.classes_.tolist()]
        with _directory(self.workdir, config, images, numbers, names) as path:
            _write(path, images, numbers, names)
            config.data.source.root = os.path.join(path, "images.npz")
            is_finished = os.path.exists(os.path.join(path, "result.json"))
            if not is_finished and not stages.train(config, path, is_quiet=not self.verbose):
                raise KeyboardInterrupt
            self.network_ = trained.load(path, "latest", num_devices=1)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Returns the likeliest class of each image, `[N]`."""
        numbers = self._logits(X).argmax(axis=1)
        return self.classes_[numbers]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the probability of each of `classes_`, `[N, K]` float64."""
        return softmax(self._logits(X).astype(np.float64))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Returns the accuracy on the images that have a label."""
        is_known = ~matrices.is_bare(np.asarray(y))
        InputError.check(is_known.any(), "number of labels in y", 0, "at least 1")
        truth = np.array(np.asarray(y)[is_known].tolist())
        weight = None if sample_weight is None else np.asarray(sample_weight)[is_known]
        return accuracy_score(truth, self.predict(X)[is_known], sample_weight=weight)

    def __sklearn_tags__(self):
        """Says to scikit-learn that arrays of images are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        rows, shape = matrices.flat(X)
        rows = validate_data(self, rows, reset=False)
        if len(shape) > 1 and matrices.image_shape(shape) != self.image_shape_:
            raise InputError(
                f"images are {shape}; the network was trained on {self.image_shape_} (height,"
                " width, channels): make them that"
            )
        matrices.warn_of_scale(rows, *self.range_, self.spread_)
        images = matrices.to_bytes(rows, *self.range_)
        return self.network_.logits(images.reshape(-1, *self.image_shape_))

    def _config(self, images: np.ndarray, numbers: np.ndarray) -> ConfigDict:
        """Returns the configuration; where its images lie is left open."""
        told = SimpleNamespace(**_plain(self.get_params(deep=False)))
        config, is_small = defaults.base(), min(images.shape[1:3]) < _SMALL
        config.seed = int(check_random_state(told.random_state).randint(2**31 - 1))
        config.data.source = defaults.source("arrays", name="arrays (tested on training images)")
        config.data.channels = images.shape[3]
        config.data.split.update(protocol="given", overlap=bool(numbers.min() >= 0))
        config.augment.recipe = told.augment
        if told.augment == "auto":
            config.augment.recipe = "digits" if is_small else "tras"
        # Measured here: what is measured on files is kept on disk for each of them.
        records = base.in_memory(images, numbers)
        mean, std = statistics.of_channels(records, np.arange(len(images)))
        config.augment.update(mean=mean, std=std)
        config.model = _network(told.network, is_small)
        config.method = _method(told.method)
        config.optim = defaults.optim(
            "O1", learning_rate=told.learning_rate, shrink=0.0, shrink_statistics=False
        )
        # As in long trainings, the average reaches over a small share of the steps.
        config.ema.decay = min(max(0.0, 1 - 10 / max(told.steps, 1)), 0.999)
        config.train.update(
            batch_size=told.batch_size,
            mu=told.mu,
            steps=told.steps,
            steps_per_epoch=max(told.steps // 50, 1),
            log_every=max(told.steps // 10, 1),
            evaluate_every=max(told.steps, 1),
            checkpoint_every=max(told.steps // 4, 1),
            eval_batch_size=256,
        )
        config.parallel.num_devices = 1
        return _with_settings(config, told.settings or {})


# --- what the run is told -------------------------------------------------------------------------


def _network(network: str | Mapping[str, Any], is_small: bool) -> dict[str, Any]:
    # Batch-norm statistics that follow within tens of steps.
    known = dict(
        small_cnn=defaults.small_cnn(16),
        wide_resnet=defaults.wide_resnet(28, 2) | dict(momentum=0.1),
        cifar_resnet=defaults.cifar_resnet(32),
    )
    if not isinstance(network, str):
        return known.get(network.get("name"), {}) | dict(network)
    name = ("small_cnn" if is_small else "wide_resnet") if network == "auto" else network
    if name not in known:
        raise InputError.unknown("network", name, ["auto", *known])
    return known[name]


def _method(method: str | Mapping[str, Any]) -> dict[str, Any]:
    return defaults.method(**(dict(name=method) if isinstance(method, str) else method))


def _with_settings(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    config.lock()
    for field, value in settings.items():
        try:
            config.update_from_flattened_dict({field: value})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"settings: {field!r} cannot be {value!r} ({error})") from error
    return config


def _plain(value: Any) -> Any:
    """Returns NumPy's numbers, as grids of a search hold them, as numbers of Python."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


@contextlib.contextmanager
def _directory(
    workdir: str | os.PathLike | None,
    config: ConfigDict,
    images: np.ndarray,
    numbers: np.ndarray,
    names: list[str],
) -> Iterator[str]:
    """Opens the directory of one fit, and removes it afterwards if nobody wants it."""
    if workdir is None:
        with tempfile.TemporaryDirectory(prefix="ltssl_jax_") as path:
            yield path
        return
    said = json.dumps([config.to_dict(), images.shape, names], sort_keys=True)
    name = base.hash_of(said.encode(), images.tobytes(), numbers.tobytes())[:12]
    path = os.path.join(workdir, name)
    os.makedirs(path, exist_ok=True)
    yield path


def _write(path: str, images: np.ndarray, numbers: np.ndarray, names: list[str]) -> None:
    """Writes the source `arrays`; what a run is tested on is one labeled image of each class."""
    tested = [int(np.argmax(numbers == k)) for k in range(len(names))]
    np.savez(
        os.path.join(path, "images.npz"),
        train_images=images,
        train_labels=numbers,
        test_images=images[tested],
        test_labels=numbers[tested],
        class_names=np.array(names),
    )
