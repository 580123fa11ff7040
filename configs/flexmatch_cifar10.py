"""FlexMatch, CIFAR-10-LT, N1 = 500, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/flexmatch_cifar10.py --workdir runs/flexmatch_cifar10/0

Protocol: the long-tailed one of USB (microsoft/Semi-supervised-learning, 1ef4cbe:
`config/classic_cv_imb`), whose code has the method but no setting of it there, so no expected
number is stated. FixMatch has 72.4 there (best on the test set, three seeds,
`results/classic_cv_imb.csv`).
Without a long tail, with 4,000 labels, this method has an error of 4.28 % (USB).
Differs from USB in the strong views: 2 of FixMatch's 14 operations, not 3, and another cutout.
Cost: 262,144 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.usb("cifar10", num_max=500, unlabeled_num_max=4000, imbalance_ratio=100.0)
    config.method = defaults.method("flexmatch")
    return config
