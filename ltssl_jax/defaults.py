"""Named blocks that the files in `configs/` share.

A config is a diff against these. Everything a run depends on is a field, so every field can be
overridden as `--config.block.field=value`; a misspelt one is an error.
"""

from typing import Any

from ml_collections import ConfigDict

from ltssl_jax import methods
from ltssl_jax.core import InputError
from ltssl_jax.data.sources import base as base_
from ltssl_jax.training import optim as optim_

# Channel statistics on the scale 0-1, as published with the protocols.
CIFAR10 = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))
CIFAR100 = dict(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
SVHN = dict(mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970))


def base() -> ConfigDict:
    """Returns every block with neutral values; a config file fills in data, model and method."""
    config = ConfigDict()
    config.seed = 0  # of weights, order, augmentation; of the split, unless data.split.seed says
    config.data = ConfigDict(
        dict(
            source=source("digits"),
            image_size=0,  # pixels; 0 leaves images as they are
            resize="crop",  # crop | stretch | pad
            channels=0,  # 1 | 3 | 4; 0: grey if all training images are, else RGB
            feed="auto",  # auto | resident | tfdata
            kept_gib=4.0,  # main memory for images that tfdata has decoded, on each machine
            drop_last=False,  # leave out the last partial batch of an epoch of images
            order="shuffled",  # of labeled images: shuffled | balanced (class by class)
            split=split(),
        )
    )
    # One way: a split that is chosen changes no other seed.
    config.data.split.seed = config.get_oneway_ref("seed")
    config.augment = dict(recipe="none", mean=(), std=())  # (): measured on the training images
    config.model = dict(name="small_cnn", dtype="float32")
    config.method = method("supervised")
    config.optim = optim("O1")
    config.ema = dict(decay=0.999, warmup=False, statistics="average")
    config.train = dict(
        batch_size=64,  # labeled images per step, over all devices
        mu=1,  # unlabeled images per labeled one
        steps=1000,
        steps_per_epoch=500,  # what the paper calls an epoch; methods count in it
        log_every=100,
        evaluate_every=500,
        checkpoint_every=500,
        eval_batch_size=512,
    )
    config.stages = ConfigDict(dict(order=()))  # of several trainings; see `stage`
    config.baseline = False  # afterwards the labeled images alone, for comparison; see `baselines`
    config.monitoring = dict(  # beside metrics.jsonl
        tensorboard=False,  # write events below the run's directory
        wandb="",  # project of Weights & Biases; "": none
    )
    config.parallel = dict(
        mode="pmap",  # pmap | shard_map | jit
        num_devices=0,  # 0: all there are
        steps_at_once=0,  # updates per dispatch; 0: what suits the devices
        stack_views="auto",  # auto | on | off: convolve the views of a step as one batch
        per_device_statistics=False,  # batch norm over each device's share instead of the batch
        coordinator="",  # host:port of process 0; "auto" on TPU pods and Slurm; "" on one process
        num_processes=0,  # with a coordinator given by name
        process_id=0,
    )
    return config


def source(kind: str, **changes: Any) -> dict[str, Any]:
    """Returns where the images come from: `sources.Settings` and what is held out, with changes."""
    block = dict(
        name="",  # which data set of tfds; elsewhere what reports call it
        root="",  # directory or file; data directory of tfds
        val="",  # further files or directories, if these parts are not under root
        test="",
        pool="",
        classes="",  # text file, one class name a line, in the order of their numbers
        columns=dict(base_.COLUMNS),  # names of the columns of a manifest
        image_root="",  # where paths in a manifest begin, if not beside it
        download=False,  # let tfds download
        check="decode",  # header looks at the first bytes only
        max_skipped=0.05,  # share of images that may be unusable
        val_fraction=0.0,  # of the labeled images, held out by group
        test_fraction=0.0,
        holdout_seed=0,  # the same for every seed of a study
    )
    return dict(kind=kind) | _changed("data.source", block, changes)


def split(**changes: Any) -> dict[str, Any]:
    """Returns the arguments of `splits.long_tailed`, with changes."""
    block = dict(
        protocol="",  # a published one, see docs/protocols.md; given: labels and pool as they are
        num_max=1000,
        imbalance_ratio=100.0,
        unlabeled_num_max=0,
        label_fraction=0.0,
        unlabeled_imbalance_ratio=0.0,  # 0: that of the labeled images
        unlabeled_shape="consistent",  # see splits.SHAPES
        labeled_counts=(),
        unlabeled_counts=(),
        overlap=False,  # are the labeled images in the unlabeled pool, too?
        shuffle=False,  # False: first images of each class, the same for every seed
        permute_classes=False,
        validation_per_class=0,
        seed=0,
    )
    return _changed("data.split", block, changes)


def method(name: str, **changes: Any) -> dict[str, Any]:
    """Returns a method's hyper-parameters with the paper's defaults, and changes."""
    if isinstance(changes.get("base"), dict):
        changes["base"] = method(**changes["base"])
    return dict(name=name) | _changed("method", methods.settings(name), changes)


def optim(recipe: str, **changes: Any) -> dict[str, Any]:
    """Returns the arguments of `optim.make` for a family O1-O4, with changes."""
    block = dict(
        name="adam",
        learning_rate=0.002,
        schedule="constant",
        weight_decay=0.0,
        momentum=0.9,
        shrink=0.0,
        shrink_statistics=False,
        is_frozen=False,  # the backbone; the heads alone are trained
    )
    return _changed("optim", block, optim_.RECIPES[recipe] | changes)


def stage(begin: str = "scratch", growth: dict[str, Any] | None = None, **changes: Any) -> Any:
    """Returns one stage of `config.stages`; see `stages`.

    Args:
      begin: "scratch", or with weights of the stage before: its "backbone" or whole "network".
      growth: `rule` of `data.growth` and its settings, by which the stage before labels the pool;
        with `keeps` its own pseudo-labels are kept.
      **changes: blocks of the configuration, or fields of them, that differ in this stage.
    """
    rule = dict(rule="", keeps=False) | (growth or {})
    return ConfigDict(dict(begin=begin, growth=rule, changes=changes))


def wide_resnet(depth: int, width: int) -> dict[str, Any]:
    """Returns a wide ResNet with the batch-norm momentum of this field."""
    return dict(
        name="wide_resnet",
        depth=depth,
        width=width,
        momentum=0.001,
        activate_entry=False,
        dtype="float32",
    )


def cifar_resnet(depth: int) -> dict[str, Any]:
    """Returns a ResNet for 32 x 32 pixels with the batch-norm momentum of PyTorch."""
    return dict(name="cifar_resnet", depth=depth, momentum=0.1, dtype="float32")


def small_cnn(width: int) -> dict[str, Any]:
    """Returns the network for tiny images."""
    return dict(name="small_cnn", width=width, momentum=0.1, dtype="float32")


def smoke(config: ConfigDict) -> ConfigDict:
    """Returns the same experiment in two steps of small batches, with a tiny network, for tests."""
    config = config.copy_and_resolve_references()
    config.model = small_cnn(4)
    config.train.update(
        batch_size=8,
        steps=2,
        steps_per_epoch=1,
        log_every=1,
        evaluate_every=2,
        checkpoint_every=2,
        eval_batch_size=64,
    )
    for name in set(config.stages) - {"order"}:
        with config.stages.unlocked():
            changes = config.stages[name].changes
            config.stages[name].changes = {k: v for k, v in changes.items() if k != "train"}
    return config


def _changed(block_name: str, block: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for field in changes:
        if field not in block:
            raise InputError.unknown(f"field of {block_name}:", field, block)
    return block | changes
