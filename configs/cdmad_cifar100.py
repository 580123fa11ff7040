"""CDMAD, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 20, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/cdmad_cifar100.py --workdir runs/cdmad_cifar100/0

Source: arXiv:2403.10391 as released (LeeHyuck/CDMAD, 7cd732b: `fixmatchcdmad.py`, README). Balanced
accuracy published for it: 54.3 (48.8 at ratio 50, 44.1 at 100), as the tables of later papers
(FARAD, DyTrim) repeat it. The labeled images are among the unlabeled ones, and the seed shuffles
them (theirs does unless it is 0). Ratio 50: `--config.data.split.imbalance_ratio=50`.
Their batch norm follows by 0.1 in effect, though 0.001 is written, and the network has the textbook
pre-activation. Weights shrink twice as fast as on CIFAR-10.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar100",
        num_max=150,
        unlabeled_num_max=300,
        imbalance_ratio=20.0,
        overlap=True,
        shuffle=True,
    )
    config.method = defaults.method("cdmad")
    config.optim = defaults.optim("O1", learning_rate=0.0015, shrink=0.08)
    config.train.update(batch_size=32, mu=2)
    return config
