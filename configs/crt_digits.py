"""FixMatch, then its classifier again on class-balanced labels: a minute on two cores. 2026-11-22.

python -m ltssl_jax.main --config configs/crt_digits.py --workdir runs/crt

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
arXiv:1910.09217 (cRT): the backbone stays as the first stage left it, a new classifier learns from
batches that hold every class equally often. Theirs is supervised throughout; here the backbone has
seen the pool, too. Protocol: ours (`setups.digits`); docs/methods.md has our numbers.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("supervised")
    config.stages.order = ("represent", "classify")
    config.stages.represent = defaults.stage(
        method=defaults.method("fixmatch", num_strong=2), train=dict(steps=1000)
    )
    config.stages.classify = defaults.stage(
        begin="backbone",
        optim=dict(is_frozen=True),
        data=dict(order="balanced"),
        train=dict(steps=500),
    )
    return config
