"""DebiasPL on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/debiaspl_digits.py --workdir runs/debiaspl_digits

Protocol: ours (`defaults.digits_protocol`), so there is no published number.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.digits_protocol()
    config.method = defaults.method("debiaspl")
    return config
