"""CoSSL on the digits of scikit-learn, long-tailed, after FixMatch: a minute. 2026-11-22.

python -m ltssl_jax.main --config configs/cossl_digits.py --workdir runs/cossl_digits

1,000 steps of FixMatch and 500 of CoSSL, together as many as the other methods make.

Protocol: ours (`setups.digits`), so there is no published number; docs/methods.md has ours.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.digits()
    config.method = defaults.method("cossl", warmup_epochs=1)
    config.stages.order = ("represent", "cossl")
    config.stages.represent = defaults.stage(
        method=defaults.method("fixmatch", num_strong=2), train=dict(steps=1000)
    )
    config.stages.cossl = defaults.stage(begin="network", train=dict(steps=500))
    return config
