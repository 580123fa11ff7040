"""ACR, CIFAR-10-LT, N1 = 500, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/acr_cifar10.py --workdir runs/acr_cifar10/0

Published balanced accuracy: 81.6 (84.1 with N1 = 1500, M1 = 3000), as in table 2 of CCL's paper;
the README of the released code (Gank0078/ACR, 9a8f421: `train.py`, README) prints none. With a
uniform pool (`--config.data.split.unlabeled_shape=uniform_max`: M1 images of each class) 92.1,
with a reversed one (`--config.data.split.unlabeled_shape=reversed`) 85.0. The mean of the last 20
epochs, EMA network, head balanced.
TFDS keeps the images in an order of its own: the same counts, other images than the authors'.
Cost: 250,000 steps; not yet run at full length by us.

Without TFDS, on a folder of `train/CLASS/*` and `test/CLASS/*` images:
`--config.data.source.kind=folder --config.data.source.root=DIR`.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.drop_last = True  # their loaders do
    config.data.split.update(
        num_max=500, unlabeled_num_max=4000, imbalance_ratio=100.0, overlap=True
    )
    config.augment = dict(recipe="fixmatch", **defaults.CIFAR10)
    config.model = defaults.wide_resnet(28, 2)
    config.method = defaults.method("acr")
    config.optim = defaults.optim("O2")
    config.ema.statistics = "copy"
    config.train.update(
        batch_size=64, mu=1, steps=250_000, steps_per_epoch=500, checkpoint_every=2500
    )
    return config
