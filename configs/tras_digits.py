"""TRAS on the 1,797 digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-21.

python -m ltssl_jax.main --config configs/tras_digits.py --workdir runs/digits

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("tras", warmup_epochs=3)
    return config
