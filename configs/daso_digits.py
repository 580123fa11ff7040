"""DASO on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/daso_digits.py --workdir runs/daso_digits

The pool is not distributed like the labels here, so the temperature is the authors' for that case.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("daso", dist_temperature=0.3, warmup_steps=200, update_every=20)
    return config
