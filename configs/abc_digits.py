"""ABC on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/abc_digits.py --workdir runs/abc_digits

Another base: `config.method = defaults.method("abc", ramp_epochs=15, base=dict(name="saw"))`.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("abc", ramp_epochs=15)
    return config
