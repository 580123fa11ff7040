"""TRAS on images of your own: some with a label, the others without. 2026-11-22.

python -m ltssl_jax.main --config configs/own_images.py --workdir runs/own \
  --config.data.source.root=labels.csv --config.data.source.pool=DIR

`own_images.py:small` is a small network on 32 pixels for a thousand steps: minutes on a laptop, to
see whether everything works. Look at the data first: `python -m ltssl_jax.inspect` with the same
flags. Two baselines of the labeled images alone are trained afterwards, to tell whether the others
helped: `--config.baseline=False` leaves them out. A start, tuned for no data set, with no expected
number.
"""

from ltssl_jax import defaults, setups
from ltssl_jax.core import InputError


def get_config(size: str = "full"):
    """Returns the configuration; `size` is "full" or "small"."""
    config = setups.own_images()
    config.baseline = True
    if size not in ("full", "small"):
        raise InputError.unknown("own_images.py:", size, ("full", "small"))
    if size == "small":
        config.data.image_size = 32
        config.model = defaults.small_cnn(16)
        config.ema.decay = 0.99
        config.method.warmup_epochs = 4
        config.train.update(
            batch_size=32,
            steps=1000,
            steps_per_epoch=50,
            log_every=100,
            evaluate_every=250,
            checkpoint_every=250,
            eval_batch_size=256,
        )
    return config
