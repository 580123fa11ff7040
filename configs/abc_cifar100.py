"""ABC, CIFAR-100-LT, N1 = 200, M1 = 300, imbalance ratio 20, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/abc_cifar100.py --workdir runs/abc_cifar100/0

Source: arXiv:2110.10368 as released (LeeHyuck/ABC, f70e926: `ABCfix.py`, `readme.txt`, whose
command for this data set asks for classes in two steps; the script's default is the long tail taken
here). The labeled images are among the unlabeled ones, as in the released code for this data set
and no other. The paper's tables could not be read, so no expected number is stated. Others report
59.1 (CCL's table 2, on SGD) and 59.7 (USB) for FixMatch+ABC at N1 = 150, M1 = 300, ratio 10; these
are other protocols and do not compare.
Cost: 250,000 steps of 0.23 TFLOP each; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.tras(
        "cifar100", num_max=200, label_fraction=0.4, imbalance_ratio=20.0, overlap=True
    )
    config.method = defaults.method("abc")
    return config
