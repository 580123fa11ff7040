"""Self-training with LDAM-DRW on the digits of scikit-learn, long-tailed: a minute. 2026-11-22.

python -m ltssl_jax.main --config configs/self_training_digits.py --workdir runs/self_training

The recipe of Yang & Xu, arXiv:2006.07529 (imbalanced-semi-self): cross entropy on the labeled
images, then every image of the pool takes its most probable class, however unsure, and a network
is trained from scratch on all labels with LDAM-DRW, whose margins and weights count the
pseudo-labels, too. All weigh alike, as in their code; the paper weighs pseudo-labels by a factor.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("supervised", objective="ldam", reweight_from=6)
    config.train.steps = 750
    config.stages.order = ("label", "train")
    config.stages.label = defaults.stage(method=defaults.method("supervised"))
    config.stages.train = defaults.stage(growth=dict(rule="everything"))
    return config
