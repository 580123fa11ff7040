"""Rotation before LDAM-DRW on the digits of scikit-learn, long-tailed: under a minute. 2026-11-22.

python -m ltssl_jax.main --config configs/rotation_digits.py --workdir runs/rotation_digits

The recipe of Yang & Xu, arXiv:2006.07529: 500 steps of pre-training without labels, then 1,000 of
LDAM-DRW on the labeled images from that backbone. Momentum contrast instead of rotation:
`configs/moco_digits.py`.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
Digits that are turned by half are digits again, which makes this a hard case for rotation.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("supervised", objective="ldam", reweight_from=5)
    config.train.steps = 1000
    config.stages.order = ("pretrain", "finetune")
    config.stages.pretrain = defaults.stage(
        method=defaults.method("rotation"), train=dict(steps=500)
    )
    config.stages.finetune = defaults.stage(begin="backbone")
    return config
