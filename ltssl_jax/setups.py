"""What configurations begin from: data, views, network, optimizer and steps that methods share.

A published one is that of a line of papers; what it takes from where is said in each.
"""

from typing import Any

from ml_collections import ConfigDict

from ltssl_jax import defaults

STATISTICS = dict(cifar10=defaults.CIFAR10, cifar100=defaults.CIFAR100, svhn_cropped=defaults.SVHN)


def tras(dataset: str, **split: Any) -> ConfigDict:
    """Returns what the TRAS and ABC papers share over data sets: network, views, 500 x 500 steps.

    Source: Stomach-ache/TRAS at c62ec01 (`train.py`, `run.sh`), LeeHyuck/ABC.
    """
    config = _published(dataset, split)
    config.data.drop_last = True  # their loaders do
    config.augment = dict(recipe="tras", **STATISTICS[dataset])
    config.method = defaults.method("tras")
    config.optim = defaults.optim("O1")
    return config


def darp(dataset: str, **split: Any) -> ConfigDict:
    """Returns TRAS's with the network of DARP, CoSSL, SAW and CDMAD, in which nothing is idle.

    Their batch norm follows by 0.1 in effect, though 0.001 is written, and the network has the
    textbook pre-activation. Source: bbuing9/DARP at 64a94b4, `models/wrn.py`.
    """
    config = tras(dataset, **split)
    config.model.update(momentum=0.1, activate_entry=True)
    return config


def acr(dataset: str, **split: Any) -> ConfigDict:
    """Returns the protocol of ACR and of what is built on it; the pool holds the labeled images.

    Source: Gank0078/ACR at 9a8f421, `train.py`.
    """
    config = _published(dataset, dict(overlap=True) | split)
    config.data.drop_last = True  # their loaders do
    config.augment = dict(recipe="fixmatch", **STATISTICS[dataset])
    config.optim = defaults.optim("O2")
    config.ema.statistics = "copy"
    return config


def daso(dataset: str, **split: Any) -> ConfigDict:
    """Returns the protocol of DASO and of the baselines in its tables: a tenth is held out.

    Source: ytaek-oh/daso at 3541a6c, `lib/config/defaults.py` and `configs`.
    """
    held_out = dict(cifar10=500, cifar100=50)[dataset]
    config = _published(dataset, dict(validation_per_class=held_out, shuffle=True) | split)
    config.augment = dict(recipe="fixmatch", **STATISTICS[dataset])
    config.model.update(momentum=0.1, activate_entry=True)
    config.optim = defaults.optim("O3")
    config.ema.warmup = True
    config.train.mu = 2
    return config


def usb(dataset: str, **split: Any) -> ConfigDict:
    """Returns the long-tailed protocol of USB and of what is built on it.

    Source: microsoft/Semi-supervised-learning at 1ef4cbe, `config/classic_cv_imb`.
    """
    config = _published(dataset, dict(shuffle=True) | split)
    statistics = STATISTICS[dataset]
    if dataset == "cifar10":  # theirs are those of ImageNet
        statistics = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.augment = dict(recipe="fixmatch", **statistics)
    config.optim = defaults.optim("O4")
    config.ema.statistics = "copy"
    config.train.update(
        mu=2,
        steps=2**18,
        steps_per_epoch=1024,
        log_every=256,
        evaluate_every=1024,
        checkpoint_every=4096,
    )
    return config


def ldam(dataset: str, *, steps_per_epoch: int, **split: Any) -> ConfigDict:
    """Returns LDAM's protocol: ResNet-32 and 200 epochs of the labeled images, without a pool.

    Source: arXiv:1906.07413, as YyzHarry/imbalanced-semi-self has it at b91ad29, `train.py`.
    """
    nothing = (0,) * dict(cifar10=10, cifar100=100)[dataset]
    pool = dict(unlabeled_counts=nothing, overlap=True)  # a pool there must be, if of the same
    config = _published(dataset, dict(shuffle=True) | pool | split)
    mean = defaults.CIFAR10["mean"]  # whatever the data set
    config.augment = dict(recipe="tras", mean=mean, std=(0.2023, 0.1994, 0.2010))
    config.model = defaults.cifar_resnet(32)
    config.optim = defaults.optim("O2", learning_rate=0.1, schedule="ldam", weight_decay=2e-4)
    config.ema.decay = 0.0  # evaluated is the network itself
    config.train.update(
        batch_size=128,
        steps=200 * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        log_every=steps_per_epoch,
        evaluate_every=steps_per_epoch,
        checkpoint_every=20 * steps_per_epoch,
    )
    return config


def _published(dataset: str, split: dict[str, Any]) -> ConfigDict:
    """What most papers share: WRN-28-2, 500 epochs of 500 steps, batches of 64."""
    config = defaults.base()
    config.data.source = defaults.source("tfds", name=dataset)
    config.data.split.update(split)
    config.model = defaults.wide_resnet(28, 2)
    config.train.update(
        batch_size=64, mu=1, steps=250_000, steps_per_epoch=500, checkpoint_every=2500
    )
    return config


def digits() -> ConfigDict:
    """Returns a protocol that separates methods in a minute on two cores.

    The 1,797 handwritten digits of scikit-learn, 50 test images a class; 201 labeled images, 60 of
    the most and 3 of the least frequent class, all others unlabeled; which digit is rare is drawn
    by the seed. With one image of the rarest class (ratio 50) the outcome depends on which image it
    is more than on the method; see docs/methods.md.
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
    """Returns a start for own images, labels and pool as they are: WRN-28-2, 64 pixels.

    The method is FixMatch with a logit-adjusted loss of the labeled images: with three classes and
    three labels of the rarest, TRAS leans too far towards that one (docs/own_images.md). Nothing
    else was chosen by any data set. An epoch is what the warm-up of methods counts in.
    """
    config = defaults.base()
    config.data.update(source=defaults.source("auto"), image_size=64)
    config.data.split.protocol = "given"
    config.augment.recipe = "tras"
    config.model = defaults.wide_resnet(28, 2)
    config.model.momentum = 0.01  # statistics that follow within hundreds of steps
    config.method = defaults.method("fixmatch", labeled_tau=1.0)
    config.optim = defaults.optim("O1")
    config.train.update(
        steps=30_000, steps_per_epoch=300, log_every=300, evaluate_every=1500, checkpoint_every=1500
    )
    return config
