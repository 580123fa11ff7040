"""UDA, CIFAR-10-LT, N1 = 500, M1 = 4000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/uda_cifar10.py --workdir runs/uda_cifar10/0

The authors trained on balanced classes only (arXiv:1904.12848; their README: 95.68 % at 4,000
labels, 94.57 % at 250), and no long-tailed number is known to us: the split is that of
`fixmatch_cifar10.py`, with which it compares. Training as in the authors' `run_cifar10_gpu.sh`.
Differs from it in the views, which are drawn anew in each step, in the activation (ReLU there, here
leaky) and in the weight decay, which theirs applies to biases and batch norm, too.
Cost: 500,000 steps of 960 images; not yet run at full length by us.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.split.update(
        num_max=500,
        unlabeled_num_max=4000,
        imbalance_ratio=100.0,
        validation_per_class=500,
        shuffle=True,
    )
    config.augment = dict(recipe="fixmatch", **defaults.CIFAR10)
    config.model = defaults.wide_resnet(28, 2)
    config.model.update(momentum=0.1, activate_entry=True)
    config.method = defaults.method("uda")
    config.optim = defaults.optim("O2")
    config.ema.decay = 0.9999
    config.train.update(
        batch_size=64, mu=7, steps=500_000, steps_per_epoch=500, checkpoint_every=2500
    )
    return config
