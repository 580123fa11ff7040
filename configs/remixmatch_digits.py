"""ReMixMatch on the digits of scikit-learn, long-tailed: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/remixmatch_digits.py --workdir runs/remixmatch_digits

Protocol: ours (`defaults.digits_protocol`), so there is no published number.
The weights rise over the whole run, as in the long-tailed codes.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.digits_protocol()
    config.method = defaults.method("remixmatch", ramp_steps=1500)
    return config
