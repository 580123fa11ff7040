"""Rotation first, CIFAR-100-LT, 500 images of class 0, imbalance ratio 100, ResNet-32. 2026-11-22.

python -m ltssl_jax.main --config configs/rotation_cifar100.py --workdir runs/rotation_cifar100/0

The self-supervised pre-training of Yang & Xu, arXiv:2006.07529, as in `rotation_cifar10.py`.
Published error of the best epoch: 59.60 % (54.96 at ratio 50, 42.93 at 10), README of
YyzHarry/imbalanced-semi-self at b91ad29. Ratio 50: `--config.data.split.imbalance_ratio=50
--config.train.steps_per_epoch=99 --config.train.steps=19800`, ratio 10: 153 and 30600.
Cost: two trainings of 17,000 steps; not yet run by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.ldam("cifar100", steps_per_epoch=85, num_max=500, imbalance_ratio=100.0)
    config.method = defaults.method("supervised")
    config.stages.order = ("pretrain", "finetune")
    config.stages.pretrain = defaults.stage(method=defaults.method("rotation", images="labeled"))
    config.stages.finetune = defaults.stage(begin="backbone")
    return config
