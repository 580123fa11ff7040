"""MixMatch on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/mixmatch_digits.py --workdir runs/mixmatch_digits

The weight rises over the whole run, as in the long-tailed codes. Low here for a reason: the labels
have a tail and the pool has none, and the unlabeled term absorbs the rare classes; at seed 0 the
mixtures with `unlabeled_weight=0` reach a balanced accuracy of 94.0.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("mixmatch", ramp_steps=1500)
    return config
