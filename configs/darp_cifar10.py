"""DARP, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/darp_cifar10.py --workdir runs/darp_cifar10/0

Source: arXiv:2007.08844 as released (bbuing9/DARP, 64a94b4: `train_fix`, `run.sh`, whose commands
are of the other bases). The paper's tables could not be read, so no expected number is stated. USB
reports 78.5 for its FixMatch+DARP at these counts, where its FixMatch has 76.7; other protocol and
optimizer, which do not compare. The labeled images are among the unlabeled ones. The authors' batch
norm follows by 0.1 in effect, though 0.001 is written, and their network has the textbook
pre-activation.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0, overlap=True
    )
    config.method = defaults.method("darp")
    return config
