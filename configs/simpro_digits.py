"""SimPro on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/simpro_digits.py --workdir runs/simpro_digits

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("simpro")
    return config
