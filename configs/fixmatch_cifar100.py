"""FixMatch, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 10, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/fixmatch_cifar100.py --workdir runs/fixmatch_cifar100/0

Published balanced accuracy of the EMA network: 56.5 (FixMatch), 58.6 (FixMatch+LA:
`--config.method.labeled_tau=1.0`); at ratio 20 50.7 and 53.4; with N1 = 50, M1 = 400 45.2 and 47.3,
at ratio 20 40.0 and 41.4: arXiv:2106.05682, read in table 2 of CCL's paper, arXiv:2410.06109.
Median of the last 20 evaluations. Settings are those of ytaek-oh/daso, 3541a6c,
`configs/cifar100/fixmatch.yaml`, as in `fixmatch_cifar10.py`; 50 images a class are held out.
Differs from them: no weight decay on biases and batch norm (theirs decays all).
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.daso("cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=10.0)
    config.method = defaults.method("fixmatch")
    return config
