"""SoftMatch on the digits of scikit-learn, long-tailed: under a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/softmatch_digits.py --workdir runs/softmatch_digits

Averages follow by 0.01, not 0.001: the run is that much shorter.
Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("softmatch", decay=0.99)
    return config
