"""SeMi, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 10, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/semi_cifar100.py --workdir runs/semi_cifar100/0

Source: arXiv:2501.06004 as released (pywin/SeMi, 32e3a71: `train_semi.py`, README). The README
prints no result and the paper's tables could not be read, so no expected number is stated; compare
with ACR under the same split, whose protocol this is: 61.0 in table 2 of CCL's paper.
Size and decay of the bank are those of the README's command, which otherwise belongs to a script
that is not released, see `semi_cifar10.py`.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.acr("cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=10.0)
    config.method = defaults.method("semi", bank_size=512, decay_every=200)
    return config
