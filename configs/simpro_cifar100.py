"""SimPro, CIFAR-100-LT, N1 = 50, M1 = 400, imbalance ratio 20, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/simpro_cifar100.py --workdir runs/simpro_cifar100/0

Published accuracy: 43.1 +- 0.4, read from a figure of the released code (LeapLabTHU/SimPro,
aa2425d: `figures/exp1.png`; settings of `sh/SimPro.sh`). The same figure, by
`--config.data.split.unlabeled_shape`: 52.2 uniform_max (M1 images of each class), 45.5 reversed,
43.6 middle, 44.8 head_tail. EMA network; the code logs the best evaluation and the mean of the last
20, and does not say which is printed.
Cost: 43,000 steps of 1,664 views each; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.acr(
        "cifar100", num_max=50, unlabeled_num_max=400, imbalance_ratio=20.0, overlap=False
    )
    config.method = defaults.method("simpro", tau=1.0, threshold=0.2)
    config.optim = defaults.optim("O2", learning_rate=0.17)
    config.train.update(mu=8, steps=43_000)
    return config
