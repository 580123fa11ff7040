"""DASO, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 10, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/daso_cifar100.py --workdir runs/daso_cifar100/0

Source: ytaek-oh/daso, 3541a6c, `configs/cifar100/fixmatch_daso.yaml`. Published balanced accuracy
of the EMA network: 59.2, and 60.6 with `--config.method.base.labeled_tau=1.0`; at ratio 20 52.9 and
55.1; with N1 = 50, M1 = 400 49.8 and 50.7, at ratio 20 43.6 and 44.1 (arXiv:2106.05682, read in
table 2 of CCL's paper, arXiv:2410.06109). Median of the last 20 evaluations.
Differs from them: no weight decay on biases and batch norm (theirs decays all), and what
`methods/daso.py` lists. FixMatch in the same protocol: `fixmatch_cifar100.py`.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.daso("cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=10.0)
    config.method = defaults.method("daso", dist_temperature=0.3)
    return config
