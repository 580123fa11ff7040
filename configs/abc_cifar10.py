"""ABC, CIFAR-10-LT, N1 = 1000, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/abc_cifar10.py --workdir runs/abc_cifar10/0

Source: arXiv:2110.10368 as released (LeeHyuck/ABC, f70e926: `ABCfix.py`, `readme.txt`). The paper's
tables could not be read, so no expected number is stated. Others report 81.1 (balanced accuracy, in
the tables of CDMAD's line) and 83.8 (of CCL's, on SGD) for FixMatch+ABC at N1 = 1500, M1 = 3000,
ratio 100, labeled images among the unlabeled; these are other protocols and do not compare.
Cost: 250,000 steps of 0.23 TFLOP each; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.tras("cifar10", num_max=1000, label_fraction=0.2, imbalance_ratio=100.0)
    config.method = defaults.method("abc")
    return config
