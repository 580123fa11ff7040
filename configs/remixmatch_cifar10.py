"""ReMixMatch, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/remixmatch_cifar10.py --workdir runs/remixmatch_cifar10/0

Expected: 78.79 +- 0.85, mean of the best test accuracies of three seeds (`classic_cv_imb.csv` of
microsoft/Semi-supervised-learning, 1ef4cbe), whose settings these are: shuffled by seed, no
overlap, SGD with a cosine, the weights rising over a 64th of the run.
Differs from them in the strong views (3 operations of their own list, the crop by 4 pixels), in the
shares in a mixture (one for all rows there) and in the average of the guesses (exponential there).
Running statistics move in one pass of a step there, that of the labeled rows' mixtures.
Cost: 262,144 steps of 448 images; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.usb("cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0)
    config.method = defaults.method("remixmatch", ramp_steps=4096)
    config.train.mu = 1
    return config
