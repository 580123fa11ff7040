"""CoSSL, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/cossl_cifar10.py --workdir runs/cossl_cifar10/0

Published accuracy: 83.2 (86.8 at ratio 50, 80.3 at 150), mean of the last 20 evaluations, README of
YUE-FAN/CoSSL at 9c7b840, whose settings are those of `run_cifar10.sh`; FixMatch alone has 71.5 in
the tables of CDMAD's line. The labeled images are among the unlabeled ones.
401 epochs are learned by FixMatch's own guesses as in theirs, the last 10 of them beside the head's
warm-up, and 100 by those of the head. Differs: the weak view of the first phase shares a pass with
the others; nothing decays in the second but the new head, where theirs also adds 4e-5 of the
network's weights to Adam's gradient; and see `methods/cossl.py`.
Cost: 250,500 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar10",
        num_max=1500,
        unlabeled_num_max=3000,
        imbalance_ratio=100.0,
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
