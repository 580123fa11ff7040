"""SAW, CIFAR-100-LT, N1 = 150, M1 = 300, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/saw_cifar100.py --workdir runs/saw_cifar100/0

Source: the authors' code as released (ZJUJeffLai/SAW_SSL, 44157ca: `train_fix_cifar100.py` and
`train_example.sh`, which fixes beta; the adaptive rule of the paper: `--config.method.beta=0`). The
labeled images are among the unlabeled ones. The paper's tables could not be read, and the released
log is of CIFAR-10, so no expected number is stated. USB's 58.6 is of ratio 10 and another protocol.
Their batch norm follows by 0.1 in effect, though 0.001 is written, and the network has the textbook
pre-activation.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar100", num_max=150, unlabeled_num_max=300, imbalance_ratio=100.0, overlap=True
    )
    config.method = defaults.method("saw", beta=0.99)
    return config
