"""TRAS, CIFAR-100-LT, N1 = 200, M1 = 300, imbalance ratio 20, WRN-28-2. 2026-11-21.

python -m ltssl_jax.main --config configs/tras_cifar100.py --workdir runs/tras_cifar100/0

40 % of the images are labeled (ABC's protocol), and the labeled ones occur again in the unlabeled
pool, as in the released code for this data set and no other.

Source: arXiv:2205.13358 as released (Stomach-ache/TRAS, c62ec01: `train.py`, `run.sh`). The paper's
table for this setting could not be read, so no expected number is stated; compare with FixMatch
under the same split.
Cost: 250,000 steps of 0.23 TFLOP each; not yet run at full length by us.
"""

from ltssl_jax import setups


def get_config():
    """Returns the configuration."""
    config = setups.tras(
        "cifar100", num_max=200, label_fraction=0.4, imbalance_ratio=20.0, overlap=True
    )
    return config
