"""DASO, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/daso_cifar10.py --workdir runs/daso_cifar10/0

Source: ytaek-oh/daso, 3541a6c, `configs/cifar10/fixmatch_daso.yaml`. Published balanced accuracy of
the EMA network: 79.1, and 82.5 with `--config.method.base.labeled_tau=1.0`; FixMatch alone 77.5
(arXiv:2106.05682, read in the tables of those that cite it). Median of the last 20 evaluations.
With a pool of another distribution the authors set `--config.method.dist_temperature=0.3`.
Differs from them: no weight decay on biases and batch norm (theirs decays all), and what
`methods/daso.py` lists. FixMatch in the same protocol: `fixmatch_cifar10.py`.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.daso("cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0)
    config.method = defaults.method("daso")
    return config
