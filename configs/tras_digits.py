"""TRAS on the 1,797 digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-21.

python -m ltssl_jax.main --config configs/tras_digits.py --workdir runs/digits

Protocol: ours (`defaults.digits_protocol`), so there is no published number; the README has ours.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.digits_protocol()
    config.method = defaults.method("tras", warmup_epochs=3)
    return config
