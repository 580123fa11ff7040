"""MixMatch, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/mixmatch_cifar10.py --workdir runs/mixmatch_cifar10/0

Protocol of the long-tailed code that has MixMatch as a base, bbuing9/DARP (64a94b4): no overlap,
first images of each class, Adam, the weight of the pool rising over the whole run. The paper's
tables could not be read, so no expected number is stated; CoSSL's README has 76.4 for
MixMatch+CoSSL at these counts, without overlap, too.
Differs from DARP in that each row has a share of its own in its mixture, and in the batch norm (see
`methods/mixmatch.py`; theirs follows by 0.1 in effect, though 0.001 is written).
Cost: 250,000 steps of 320 images; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp("cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0)
    config.method = defaults.method("mixmatch", ramp_steps=250_000)
    return config
