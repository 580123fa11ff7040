"""Labeled images alone, CIFAR-100-LT, N1 = 150, imbalance ratio 10, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/supervised_cifar100.py --workdir runs/supervised_cifar100

Published balanced accuracy: 46.9; with logit adjustment
(`--config.method.objective=logit_adjusted`) 48.7; at ratio 20 41.2 and 44.1; with N1 = 50 29.6 and
30.2: arXiv:2106.05682, read in table 2 of CCL's paper, arXiv:2410.06109. Settings are those of
ytaek-oh/daso, 3541a6c, `configs/cifar100/supervised.yaml`, as in `supervised_cifar10.py`. The
network itself, median of the last 20 evaluations. M1 = 300 images are read and ignored.
Differs from them: no weight decay on biases and batch norm (theirs decays all).
Cost: 250,000 steps of 64 images; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.daso("cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=10.0)
    config.method = defaults.method("supervised", beta=0.999, reweight_from=400)
    config.optim = defaults.optim("O3", learning_rate=0.1, schedule="ldam")
    config.ema.decay = 0.0  # evaluated is the network itself
    config.train.mu = 1
    return config
