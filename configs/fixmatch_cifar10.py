"""FixMatch, CIFAR-10-LT, N1 = 500, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-21.

python -m ltssl_jax.main --config configs/fixmatch_cifar10.py --workdir runs/fixmatch_cifar10/0

The check of the protocol. Published balanced accuracy of the EMA network: 67.8 (FixMatch), 75.3
(FixMatch+LA: `--config.method.labeled_tau=1.0`), arXiv:2106.05682 and those that cite it: constant
SGD, mu = 2, one strong view, 500 images a class held out, shuffled by seed, no overlap.
Differs from them in the views, which are of the TRAS family: strong ones of 3 of 16 operations, not
2 of 14, and crops padded with black, not with reflections.
Cost: 250,000 steps; not yet run at full length by us.

Without TFDS, on a folder of `train/CLASS/*` and `test/CLASS/*` images:
`--config.data.source.kind=folder --config.data.source.root=DIR`.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.split.update(
        num_max=500,
        unlabeled_num_max=4000,
        imbalance_ratio=100.0,
        validation_per_class=500,
        shuffle=True,
    )
    config.augment = dict(recipe="tras", **defaults.CIFAR10)
    config.model = defaults.wide_resnet(28, 2)
    config.method = defaults.method("fixmatch")
    config.optim = defaults.optim("O3")
    config.ema.update(warmup=True)
    config.train.update(
        batch_size=64, mu=2, steps=250_000, steps_per_epoch=500, checkpoint_every=2500
    )
    return config
