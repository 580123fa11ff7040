"""What configurations begin from: data, views, network, optimizer and steps that methods share.

A published one is that of a line of papers; what it takes from where is said in each.
"""

from ml_collections import ConfigDict

from ltssl_jax import defaults


def tras(dataset: str, statistics: dict[str, tuple[float, ...]]) -> ConfigDict:
    """Returns what the TRAS and ABC papers share over data sets: network, views, 500 x 500 steps.

    Source: Stomach-ache/TRAS at c62ec01 (`train.py`, `run.sh`), LeeHyuck/ABC.
    """
    config = defaults.base()
    config.data.source = defaults.source("tfds", name=dataset)
    config.data.drop_last = True  # their loaders do
    config.augment = dict(recipe="tras", **statistics)
    config.model = defaults.wide_resnet(28, 2)
    config.method = defaults.method("tras")
    config.optim = defaults.optim("O1")
    config.train.update(
        batch_size=64, mu=1, steps=250_000, steps_per_epoch=500, checkpoint_every=2500
    )
    return config


def acr(*, num_max: int, unlabeled_num_max: int) -> ConfigDict:
    """Returns the long-tailed CIFAR-10 of ACR and of what is built on it, at imbalance ratio 100.

    Source: Gank0078/ACR at 9a8f421, `train.py`.
    """
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.drop_last = True  # their loaders do
    config.data.split.update(
        num_max=num_max, unlabeled_num_max=unlabeled_num_max, imbalance_ratio=100.0, overlap=True
    )
    config.augment = dict(recipe="fixmatch", **defaults.CIFAR10)
    config.model = defaults.wide_resnet(28, 2)
    config.optim = defaults.optim("O2")
    config.ema.statistics = "copy"
    config.train.update(
        batch_size=64, mu=1, steps=250_000, steps_per_epoch=500, checkpoint_every=2500
    )
    return config


def usb(*, num_max: int, unlabeled_num_max: int) -> ConfigDict:
    """Returns the long-tailed CIFAR-10 of USB and of what is built on it, at imbalance ratio 100.

    Source: microsoft/Semi-supervised-learning at 1ef4cbe, `config/classic_cv_imb`.
    """
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.split.update(
        num_max=num_max, unlabeled_num_max=unlabeled_num_max, imbalance_ratio=100.0, shuffle=True
    )
    # Their channel statistics are those of ImageNet.
    config.augment = dict(recipe="fixmatch", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.model = defaults.wide_resnet(28, 2)
    config.optim = defaults.optim("O4")
    config.ema.update(statistics="copy")
    config.train.update(
        batch_size=64,
        mu=2,
        steps=2**18,
        steps_per_epoch=1024,
        log_every=256,
        evaluate_every=1024,
        checkpoint_every=4096,
    )
    return config


def digits() -> ConfigDict:
    """Returns a protocol that separates methods in a minute on two cores.

    The 1,797 handwritten digits of scikit-learn, 50 test images a class; 201 labeled images, 60 of
    the most and 3 of the least frequent class, all others unlabeled; which digit is rare is drawn
    by the seed. With one image of the rarest class (ratio 50) the outcome depends on which image it
    is more than on the method; see the README.
    """
    config = defaults.base()
    config.data.split.update(
        num_max=60,
        imbalance_ratio=20.0,
        unlabeled_shape="all_rest",
        shuffle=True,
        permute_classes=True,
    )
    config.augment = dict(recipe="digits", mean=(), std=())
    config.model = defaults.small_cnn(16)
    config.optim = defaults.optim("O1", shrink=0.0, shrink_statistics=False)
    config.ema.decay = 0.995
    config.train.update(
        batch_size=32,
        mu=2,
        steps=1500,
        steps_per_epoch=100,
        log_every=150,
        evaluate_every=300,
        checkpoint_every=300,
        eval_batch_size=256,
    )
    return config


def own_images() -> ConfigDict:
    """Returns a start for own images, labels and pool as they are: TRAS, WRN-28-2, 64 pixels.

    Nothing here was tuned for any data set. An epoch is what the warm-up of methods counts in.
    """
    config = defaults.base()
    config.data.update(source=defaults.source("auto"), image_size=64)
    config.data.split.protocol = "given"
    config.augment.recipe = "tras"
    config.model = defaults.wide_resnet(28, 2)
    config.model.momentum = 0.01  # statistics that follow within hundreds of steps
    config.method = defaults.method("tras")
    config.optim = defaults.optim("O1")
    config.train.update(
        steps=30_000, steps_per_epoch=300, log_every=300, evaluate_every=1500, checkpoint_every=1500
    )
    return config
