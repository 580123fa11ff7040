"""FixMatch, CIFAR-10-LT, N1 = 500, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/fixmatch_cifar10.py --workdir runs/fixmatch_cifar10/0

The check of the protocol. Published balanced accuracy of the EMA network: 67.8 (FixMatch), 75.3
(FixMatch+LA: `--config.method.labeled_tau=1.0`), arXiv:2106.05682, read in table 2 of CCL's paper,
arXiv:2410.06109. Median of the last 20 evaluations. Settings are those of ytaek-oh/daso, 3541a6c,
`configs/cifar10/fixmatch.yaml`: constant SGD, mu = 2, one strong view, all views in one pass, 500
images a class held out, shuffled by seed, no overlap.
Differs from them: no weight decay on biases and batch norm (theirs decays all).
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.daso("cifar10", num_max=500, unlabeled_num_max=4000, imbalance_ratio=100.0)
    config.method = defaults.method("fixmatch")
    return config
