"""SeMi, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/semi_cifar10.py --workdir runs/semi_cifar10/0

Source: arXiv:2501.06004 as released (pywin/SeMi, 32e3a71: `train_semi.py`, README). The README
prints no result and the paper's tables could not be read, so no expected number is stated; compare
with ACR under the same split, whose protocol this is.
The README's commands, with tau 0.7, belong to a script that is not released; network, views,
optimizer and batches here are the released script's. So is its step, faults included, with
`--config.method.as_released --config.method.prototype_weight=0
--config.method.feature_temperature=0.1 --config.method.decay_every=50`.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.acr("cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0)
    config.method = defaults.method("semi")
    return config
