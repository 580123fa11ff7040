"""CReST+ on the digits of scikit-learn, long-tailed, three generations: a minute. 2026-11-22.

python -m ltssl_jax.main --config configs/crest_digits.py --workdir runs/crest_digits

CReST without the plus: `--config.method.is_aligned=False`. Each generation trains from scratch for
500 steps, so together they make as many steps as the other methods on these digits. That is why it
is low here: what is tested has been trained for a third of their steps.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("crest", num_generations=3)
    config.train.steps = 500
    config.stages.order = ("base", "grow", "grow")
    config.stages.base = defaults.stage()
    config.stages.grow = defaults.stage(
        growth=dict(rule="by_rarity", alpha=3.0, imbalance_ratio=0.0)
    )
    return config
