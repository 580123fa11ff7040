"""Self-training with LDAM-DRW, CIFAR-10-LT, N1 = 1500, M1 = 3000, ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/self_training_cifar10.py --workdir runs/self_training/0

The recipe of Yang & Xu, arXiv:2006.07529 (imbalanced-semi-self), with what their code leaves out
of reach replaced: their pool is 80 Million Tiny Images, which is withdrawn, chosen by a classifier
that is not public, and five times the labeled images, and their network a ResNet-32. They train by
batches of 256, at a learning rate of 0.1 that falls in steps, with a weight decay of 2e-4 on all
parameters, and report the best epoch. So their errors (16.8 to 19.9 % at ratio 50) are no
expectation for this; compare with the other methods of this protocol. A network is trained on the
labeled images, labels the whole pool, and another one is trained from scratch on all labels, which
weigh alike, as in their code; the paper weighs pseudo-labels by a factor.
Self-supervised pre-training before it: `defaults.stage(method=defaults.method("rotation"))`, and
`begin="backbone"` in the stage after it; see configs/rotation_digits.py.
Cost: two trainings of 50,000 steps; not yet run by us.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.split.update(
        num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0, shuffle=True
    )
    config.augment = dict(recipe="tras", **defaults.CIFAR10)
    config.model = defaults.wide_resnet(28, 2)
    config.method = defaults.method("supervised", objective="ldam", reweight_from=80)
    config.optim = defaults.optim("O2")
    config.train.update(
        batch_size=128, mu=1, steps=50_000, steps_per_epoch=500, checkpoint_every=2500
    )
    config.stages.order = ("label", "train")
    config.stages.label = defaults.stage(method=defaults.method("supervised"))
    config.stages.train = defaults.stage(growth=dict(rule="everything"))
    return config
