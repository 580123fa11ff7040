"""TRAS, CIFAR-10-LT, N1 = 1000, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-21.

python -m ltssl_jax.main --config configs/tras_cifar10.py --workdir runs/tras_cifar10/0

Source: arXiv:2205.13358 as released (Stomach-ache/TRAS, c62ec01: `train.py`, `run.sh`). The paper's
table for this setting could not be read, so no expected number is stated; compare with FixMatch
under the same split.
Cost: 250,000 steps of 0.23 TFLOP each; not yet run at full length by us.
"""

from ltssl_jax import setups


def get_config():
    """Returns the configuration."""
    config = setups.tras("cifar10", num_max=1000, label_fraction=0.2, imbalance_ratio=100.0)
    return config
