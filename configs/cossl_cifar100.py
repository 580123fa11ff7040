"""CoSSL, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 20, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/cossl_cifar100.py --workdir runs/cossl_cifar100/0

Published accuracy: 53.9 (47.6 at ratio 50, 43.0 at 100), mean of the last 20 evaluations, README of
YUE-FAN/CoSSL at 9c7b840, whose settings are those of `run_cifar100.sh`. The labeled images are
among the unlabeled ones. Stages and differences are those of `cossl_cifar10.py`.
Cost: 250,500 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar100",
        num_max=150,
        unlabeled_num_max=300,
        imbalance_ratio=20.0,
        overlap=True,
        shuffle=True,
    )
    config.method = defaults.method("cossl")
    config.stages.order = ("represent", "cossl")
    config.stages.represent = defaults.stage(
        method=defaults.method("fixmatch", num_strong=2), train=dict(steps=195_500)
    )
    config.stages.cossl = defaults.stage(
        begin="network",
        optim=dict(shrink=0.0, shrink_statistics=False),
        train=dict(steps=55_000),
    )
    return config
