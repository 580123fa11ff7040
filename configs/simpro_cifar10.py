"""SimPro, CIFAR-10-LT, N1 = 500, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/simpro_cifar10.py --workdir runs/simpro_cifar10/0

Published balanced accuracy: 80.7 +- 0.3, read from a figure of the released code
(LeapLabTHU/SimPro, aa2425d: `figures/exp1.png`; settings of `sh/SimPro.sh`). The same figure, by
`--config.data.split.unlabeled_shape`: 93.8 uniform_max (M1 images of each class), 85.8 reversed,
84.8 middle, 83.0 head_tail. EMA network; the code logs the best evaluation and the mean of the last
20, and does not say which is printed.
Cost: 43,000 steps of 1,664 views each; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.acr(
        "cifar10", num_max=500, unlabeled_num_max=4000, imbalance_ratio=100.0, overlap=False
    )
    config.method = defaults.method("simpro")
    config.optim = defaults.optim("O2", learning_rate=0.17)
    config.train.update(mu=8, steps=43_000)
    return config
