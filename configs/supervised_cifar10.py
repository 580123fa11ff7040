"""Labeled images alone, CIFAR-10-LT, N1 = 500, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/supervised_cifar10.py --workdir runs/supervised_cifar10

Published balanced accuracy: 47.3; with logit adjustment
(`--config.method.objective=logit_adjusted`) 53.3; with N1 = 1500 61.9 and 70.6: arXiv:2106.05682,
read in table 2 of CCL's paper, arXiv:2410.06109. Settings are those of ytaek-oh/daso, 3541a6c,
`configs/cifar10/supervised.yaml`, which is set for LDAM-DRW (`--config.method.objective=ldam`),
too. The network itself, not an average, median of the last 20 evaluations. M1 = 4000 images are
read and ignored, so that the split is that of `fixmatch_cifar10.py`.
Differs from them: no weight decay on biases and batch norm (theirs decays all).
Cost: 250,000 steps of 64 images; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.daso("cifar10", num_max=500, unlabeled_num_max=4000, imbalance_ratio=100.0)
    config.method = defaults.method("supervised", beta=0.999, reweight_from=400)
    config.optim = defaults.optim("O3", learning_rate=0.1, schedule="ldam")
    config.ema.decay = 0.0  # evaluated is the network itself
    config.train.mu = 1
    return config
