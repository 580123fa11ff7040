"""Adsh, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/adsh_cifar10.py --workdir runs/adsh_cifar10/0

No code of the authors could be found, and their protocol could not be read. This is that of USB
(microsoft/Semi-supervised-learning, 1ef4cbe: `config/classic_cv_imb/fixmatch_adsh`), which reports
77.67 +- 0.34, the best accuracy on the test set, where FixMatch has 76.69
(`results/classic_cv_imb.csv`); by a threshold rule with faults that ours does not share, see
`ltssl_jax/methods/adsh.py`. Secondary sources give 76.5 in the protocol of CDMAD's tables.
Cost: 262,144 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.usb("cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0)
    config.method = defaults.method("adsh")
    config.optim.schedule = "constant"  # USB gives imbalanced methods no schedule
    return config
