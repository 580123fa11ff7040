"""ReMixMatch, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 10, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/remixmatch_cifar100.py --workdir runs/remixmatch_cifar100

Expected: 61.77 +- 0.34, mean of the best test accuracies of three seeds (`classic_cv_imb.csv` of
microsoft/Semi-supervised-learning, 1ef4cbe), whose settings these are: shuffled by seed, no
overlap, SGD with a cosine, the weights rising over a 64th of the run. At ratio 15 57.53.
Differs from them as `remixmatch_cifar10.py` does.
Cost: 262,144 steps of 448 images; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.usb("cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=10.0)
    config.method = defaults.method("remixmatch", ramp_steps=4096)
    config.train.mu = 1
    return config
