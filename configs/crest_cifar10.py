"""CReST+, CIFAR-10-LT, 5000 images of class 0, a tenth labeled, ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/crest_cifar10.py --workdir runs/crest_cifar10/0

Six generations of 65,536 steps, each from scratch; each labels images of the pool for the next.
Published accuracy of the last one, mean of five splits: 77.7 at ratio 100 (84.5 at 50, 67.5 at
200); CReST (`--config.method.is_aligned=False`) 75.4, FixMatch 66.2: README of
google-research/crest at e270139, whose settings are those of its `run.sh`. For the other ratios
`labeled_counts`, `unlabeled_counts` and `imbalance_ratio` of the growth must be given.
The labeled images are among the unlabeled ones, but never chosen. Differs: they decay biases, too,
let the learning rate fall to 0.98 of its beginning, and add 0.001 to variances.
Cost: 393,216 steps with seven unlabeled images for each labeled one; not yet run by us.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.split.update(
        labeled_counts=(500, 300, 180, 108, 65, 39, 24, 14, 9, 5),
        unlabeled_counts=(4500, 2697, 1616, 969, 580, 348, 208, 125, 74, 45),
        overlap=True,
        shuffle=True,
    )
    config.augment = dict(recipe="fixmatch", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    config.model = defaults.wide_resnet(28, 2)
    config.model.update(activate_entry=True)
    config.method = defaults.method("crest")
    config.optim = defaults.optim("O3")
    config.ema.statistics = "copy"
    config.train.update(
        batch_size=64, mu=7, steps=65_536, steps_per_epoch=1024, checkpoint_every=4096
    )
    config.stages.order = ("base", "grow", "grow", "grow", "grow", "grow")
    config.stages.base = defaults.stage()
    config.stages.grow = defaults.stage(
        growth=dict(rule="by_rarity", alpha=3.0, imbalance_ratio=100.0)
    )
    return config
