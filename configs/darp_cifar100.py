"""DARP on MixMatch, CIFAR-100-LT, N1 = 300, M1 = 150, imbalance ratio 20, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/darp_cifar100.py --workdir runs/darp_cifar100/0

Source: arXiv:2007.08844 as released (bbuing9/DARP, 64a94b4: the command for CIFAR-100 of `run.sh`,
which is of MixMatch: refined every 100 steps by 20 turns, more labeled than unlabeled images, no
overlap). The paper's tables could not be read, so no expected number is stated. For its
FixMatch+DARP at N1 = 150, M1 = 300, ratio 10, USB reports 58.2, where its FixMatch has 57.8; other
protocol and optimizer, which do not compare. The authors' batch norm follows by 0.1 in effect,
though 0.001 is written, and their network has the textbook pre-activation.
Differs in what `methods/darp.py` and `methods/mixmatch.py` list; their solver stops sooner on this
data set (within 0.3 of a root) than on CIFAR-10.
Cost: 250,000 steps of 320 images; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp("cifar100", num_max=300, unlabeled_num_max=150, imbalance_ratio=20.0)
    base = dict(name="mixmatch", ramp_steps=250_000)
    config.method = defaults.method("darp", refine_every=100, num_iterations=20, base=base)
    return config
