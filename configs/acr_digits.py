"""ACR on the 1,797 digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/acr_digits.py --workdir runs/acr_digits

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("acr", warmup_epochs=2)
    return config
