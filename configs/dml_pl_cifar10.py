"""DML-PL, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/dml_pl_cifar10.py --workdir runs/dml_pl_cifar10/0

Four rounds of learning distances, labeling and fine-tuning. Only the abstract of the paper is
public: the outline is its, every detail ours, and no number of it is known to us.
Cost: eight trainings of 20,000 steps; not yet run by us.
"""

from ltssl_jax import defaults


def get_config():
    """Returns the configuration."""
    config = defaults.base()
    config.data.source = defaults.source("tfds", name="cifar10")
    config.data.split.update(
        num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0, shuffle=True
    )
    config.augment = dict(recipe="fixmatch", **defaults.CIFAR10)
    config.model = defaults.wide_resnet(28, 2)
    config.method = defaults.method("dml_pl", phase="tune")
    config.optim = defaults.optim("O3")
    config.train.update(
        batch_size=64, mu=2, steps=20_000, steps_per_epoch=500, checkpoint_every=2500
    )
    metric = dict(method=defaults.method("dml_pl"))
    config.stages.order = ("begin", *("tune", "metric") * 3, "end")
    config.stages.begin = defaults.stage(**metric)
    config.stages.metric = defaults.stage(begin="backbone", growth=dict(keeps=True), **metric)
    config.stages.tune = defaults.stage(
        begin="backbone", growth=dict(rule="nearest", keeps=True, share=0.5)
    )
    config.stages.end = defaults.stage(
        begin="backbone", growth=dict(rule="nearest", keeps=True, share=1.0)
    )
    return config
