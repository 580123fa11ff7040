"""ACR, CIFAR-10-LT, N1 = 500, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/acr_cifar10.py --workdir runs/acr_cifar10/0

Published balanced accuracy: 81.6 (84.1 with N1 = 1500, M1 = 3000), as in table 2 of CCL's paper;
the README of the released code (Gank0078/ACR, 9a8f421: `train.py`, README) prints none. With a
uniform pool (`--config.data.split.unlabeled_shape=uniform_max`: M1 images of each class) 92.1,
with a reversed one (`--config.data.split.unlabeled_shape=reversed`) 85.0. The mean of the last 20
epochs, EMA network, head balanced.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.acr("cifar10", num_max=500, unlabeled_num_max=4000, imbalance_ratio=100.0)
    config.method = defaults.method("acr")
    return config
