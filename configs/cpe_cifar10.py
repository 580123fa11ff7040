"""CPE, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/cpe_cifar10.py --workdir runs/cpe_cifar10/0

Source: machengcheng2016/CPE-LTSSL, dedd598, `fixmatch_cpe_cifar10_lb1500_100_ulb3000_100_0_2_4_0`.
Their logs: 84.44, the mean over three seeds of the best test accuracy of a run, which is more than
the last one; arXiv:2312.15702. The learning rate is constant: all their logs say so.
Differs from them in the strong views (2 of 14 operations and a cutout of 16 pixels, not 3 of 14,
always applied, and one of random size) and in what `methods/cpe.py` lists.
Cost: 262,144 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.usb("cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0)
    config.method = defaults.method("cpe")
    config.optim.schedule = "constant"  # USB gives imbalanced methods no schedule
    return config
