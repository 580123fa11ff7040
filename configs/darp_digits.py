"""DARP on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/darp_digits.py --workdir runs/darp_digits

Here the pool has about as many images of each class, unlike the labels, whose prior DARP takes for
the pool's unless it is told otherwise. As of any pool, `python -m ltssl_jax.inspect` estimates it;
a uniform one: `"--config.method.pool_prior=(1.,1.,1.,1.,1.,1.,1.,1.,1.,1.)"`.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("darp", warmup_epochs=5)
    return config
