"""DML-PL on the digits of scikit-learn, long-tailed, three rounds: a minute. 2026-11-22.

python -m ltssl_jax.main --config configs/dml_pl_digits.py --workdir runs/dml_pl_digits

Distances are learned, half of the unlabeled images that are nearest to clusters of labeled ones
take their class, the network is fine-tuned, and so on; the last round labels all that are left.
1,500 steps together. The outline is the paper's, every detail ours; see the method's docstring.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("dml_pl", phase="tune", size=32)
    config.train.steps = 250
    config.train.update(log_every=50, evaluate_every=250, checkpoint_every=250)
    metric = dict(method=defaults.method("dml_pl", size=32))
    config.stages.order = ("begin", "tune", "metric", "tune", "metric", "end")
    config.stages.begin = defaults.stage(**metric)
    config.stages.metric = defaults.stage(begin="backbone", growth=dict(keeps=True), **metric)
    config.stages.tune = defaults.stage(
        begin="backbone", growth=dict(rule="nearest", keeps=True, share=0.5)
    )
    config.stages.end = defaults.stage(
        begin="backbone", growth=dict(rule="nearest", keeps=True, share=1.0)
    )
    return config
