"""DebiasPL, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/debiaspl_cifar10.py --workdir runs/debiaspl_cifar10/0

The authors (arXiv:2201.01490) released commands for ImageNet only. Tables of CDMAD's line (DyTrim,
FARAD) report a balanced accuracy of 80.6 on this split (85.6 at ratio 50, 76.6 at 150; FixMatch:
71.5), with the labeled images among the unlabeled ones, and do not say by which settings. Beside it
stands the 83.2 that CoSSL's authors print for theirs; so network and training here are those of
DARP, CoSSL and SAW, not the batches and learning rate of `cdmad_cifar10.py`. USB's 77.5 on
1500 + 3000 is FixMatch: its average runs over the classes, too, so nothing is ever subtracted.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0, overlap=True
    )
    config.method = defaults.method("debiaspl")
    return config
