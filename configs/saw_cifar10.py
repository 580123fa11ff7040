"""SAW, CIFAR-10-LT, N1 = 1500, M1 = 3000, imbalance ratio 100, WRN-28-2. 2026-11-22.

python -m ltssl_jax.main --config configs/saw_cifar10.py --workdir runs/saw_cifar10/0

Source: the authors' code as released (ZJUJeffLai/SAW_SSL, 44157ca: `train_example.sh`, which fixes
beta; the adaptive rule of the paper: `--config.method.beta=0`). The labeled images are among the
unlabeled ones. The paper's tables could not be read. The log that is released with the code ends,
over the last 20 epochs, at 76.67 on a *weakly augmented* test set; the clean number is not in it.
Others' 80.7 at this setting is of SAW with logit adjustment, and 80.8 (USB) of another protocol.
Their batch norm follows by 0.1 in effect, though 0.001 is written, and the network has the textbook
pre-activation.
Cost: 250,000 steps; not yet run at full length by us.
"""

from ltssl_jax import defaults, setups


def get_config():
    """Returns the configuration."""
    config = setups.darp(
        "cifar10", num_max=1500, unlabeled_num_max=3000, imbalance_ratio=100.0, overlap=True
    )
    config.method = defaults.method("saw", beta=0.99)
    return config
