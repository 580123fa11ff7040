"""UDA on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/uda_digits.py --workdir runs/uda_digits

Protocol: ours (`defaults.digits_protocol`), so there is no published number.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.digits_protocol()
    config.method = defaults.method("uda")
    return config
