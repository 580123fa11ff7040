"""FixMatch on the digits of scikit-learn, long-tailed: under a minute on two cores. 2026-11-21.

python -m ltssl_jax.main --config configs/fixmatch_digits.py --workdir runs/fixmatch_digits

Prior-corrected pseudo-labels: `--config.method.pseudo_label_tau=1.0`.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("fixmatch", num_strong=2, forward_mode="separate")
    return config
