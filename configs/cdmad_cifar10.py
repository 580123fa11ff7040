"""CDMAD, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/cdmad_cifar10.py --workdir runs/cdmad_cifar10/0

Source: arXiv:2403.10391 as released (LeeHyuck/CDMAD, 7cd732b: `fixmatchcdmad.py`, README). Balanced
accuracy published for it: 83.6 (87.3 at ratio 50, 80.8 at 150), as the tables of later papers
(FARAD, DyTrim) repeat it; FixMatch alone has 71.5 there. The labeled images are among the unlabeled
ones. Ratio 50: `--config.data.split.imbalance_ratio=50`.
Their batch norm follows by 0.1 in effect, though 0.001 is written, and the network has the textbook
pre-activation. From 30,000 images on `optim.shrink` is 0.01.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0, overlap=True
    )
    config.method = defaults.method("cdmad")
    config.optim = defaults.optim("O1", learning_rate=0.0015, shrink=0.04)
    config.train.update(batch_size=32, mu=2)
    return config
