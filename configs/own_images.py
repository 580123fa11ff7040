"""Images of your own: some with a label, the others without. 2026-11-22.

python -m ltssl_jax.main --config configs/own_images.py --workdir runs/own \
  --config.data.source.root=labels.csv --config.data.source.pool=DIR

The method is FixMatch with a logit-adjusted loss of the labeled images. `own_images.py:tras` takes
another one, with its paper's settings; `own_images.py:small` is a small network on 32 pixels for a
thousand steps: minutes on a laptop, to see whether everything works; `own_images.py:small,tras` is
both. Look at the data first: `python -m ltssl_jax.inspect` with the same flags. A start, tuned for
no data set, with no expected number.
"""

from ltssl_jax import defaults, methods, setups
from ltssl_jax.core import InputError


def get_config(chosen: str = "full"):
    """Returns the configuration; `chosen` is a size ("full", "small"), a method, or both."""
    config = setups.own_images()
    known = ("full", "small", *methods.names())
    words = [word.strip() for word in chosen.split(",")]
    for word in words:
        if word not in known:
            raise InputError.unknown("own_images.py:", word, known)
        if word in methods.names():
            config.method = defaults.method(word)
    if "small" in words:
        config.data.image_size = 32
        config.model = defaults.small_cnn(16)
        config.ema.decay = 0.99
        if "warmup_epochs" in config.method:
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
