"""CPE, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 10, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/cpe_cifar100.py --workdir runs/cpe_cifar100/0

Source: machengcheng2016/CPE-LTSSL, dedd598, `fixmatch_cpe_cifar100_lb150_10_ulb300_10_0_2_4_0`;
arXiv:2312.15702. Published accuracy: 59.8, table 2 of CCL's paper, arXiv:2410.06109 (the released
logs are of CIFAR-10 alone). Their code reports the best test accuracy of a run.
Differs from them in the strong views (2 of 14 operations and a cutout of 16 pixels, not 3 of 14,
always applied, and one of random size) and in what `methods/cpe.py` lists.
Cost: 262,144 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.usb("cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=10.0)
    config.method = defaults.method("cpe", cut1=35, cut2=70)
    config.optim.schedule = "constant"  # USB gives imbalanced methods no schedule
    return config
