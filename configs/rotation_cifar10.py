"""Rotation first, CIFAR-10-LT, 5000 images of class 0, imbalance ratio 100, ResNet-32. 2026-11-22.

python -m ltssl_jax.main --config configs/rotation_cifar10.py --workdir runs/rotation_cifar10/0

The self-supervised pre-training of Yang & Xu, arXiv:2006.07529: 200 epochs of recognizing quarter
turns, then 200 of cross entropy from that backbone, both on the labeled images alone. Published
error of the best epoch: 26.50 % (21.80 at ratio 50, 12.28 at 10), README of
YyzHarry/imbalanced-semi-self at b91ad29, whose settings these are (`pretrain_rot.py`, `train.py`).
LDAM-DRW after it: `--config.method.objective=ldam`, of which the README has no number; its 23.47 by
resampling has no counterpart here. An epoch is every image once; ratio 50:
`--config.data.split.imbalance_ratio=50 --config.train.steps_per_epoch=110
--config.train.steps=22000`, ratio 10: 160 and 32000.
Differs: momentum is Nesterov's, biases and batch norm do not decay, and the learning rate rises by
steps in the first 5 epochs, where theirs rises by epochs.
Cost: two trainings of 19,400 steps; not yet run by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.ldam("cifar10", steps_per_epoch=97, num_max=5000, imbalance_ratio=100.0)
    config.method = defaults.method("supervised")
    config.stages.order = ("pretrain", "finetune")
    config.stages.pretrain = defaults.stage(method=defaults.method("rotation", images="labeled"))
    config.stages.finetune = defaults.stage(begin="backbone")
    return config
