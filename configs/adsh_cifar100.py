"""Adsh, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 10, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/adsh_cifar100.py --workdir runs/adsh_cifar100/0

No code of the authors could be found, and their protocol could not be read. This is that of USB
(microsoft/Semi-supervised-learning, 1ef4cbe: `config/classic_cv_imb/fixmatch_adsh`), which reports
58.37 +- 0.26, the best accuracy on the test set, where FixMatch has 57.76
(`results/classic_cv_imb.csv`); by a threshold rule with faults that ours does not share, see
`ltssl_jax/methods/adsh.py`.
Cost: 262,144 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.usb("cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=10.0)
    config.method = defaults.method("adsh")
    config.optim.schedule = "constant"  # USB gives imbalanced methods no schedule
    return config
