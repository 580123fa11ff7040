"""The labeled digits alone: the baseline that the others must beat. 2026-11-21.

python -m ltssl_jax.main --config configs/supervised_digits.py --workdir runs/supervised_digits

Logit adjustment: `--config.method.objective=logit_adjusted`; LDAM with deferred re-weighting:
`--config.method.objective=ldam`.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("supervised", reweight_from=10)
    return config
