"""Eight fake devices, cheap compilation and strict ranks, set before anything imports jax."""

import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
if os.environ["JAX_PLATFORMS"] == "cpu":
    # Elementwise code gets slower, compilation several times faster; bits of random numbers stay.
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    )
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/ltssl_jax/tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# TRAS on digits in a dozen steps that are not trivial: confident pseudo-labels, both heads trained,
# averages that follow at once. One set of shapes for all whole runs: compiled once.
SMALL = {
    "method.warmup_epochs": 1,
    "method.threshold": 0.4,
    "model.width": 4,
    "optim.learning_rate": 0.01,
    "ema.decay": 0.5,
    "train.batch_size": 16,
    "train.mu": 1,
    "train.steps": 12,
    "train.steps_per_epoch": 4,
    "train.log_every": 5,
    "train.evaluate_every": 4,
    "train.checkpoint_every": 4,
    "train.eval_batch_size": 128,
}


@pytest.fixture(scope="session")
def small_config():
    """Returns a function from changes, `{"train.steps": 6}`, to the configuration of a tiny run."""
    from ltssl_jax import defaults

    def make(changes=()):
        config = defaults.digits_protocol()
        config.method = defaults.method("tras")
        config.update_from_flattened_dict(SMALL | dict(changes))
        return config

    return make


@pytest.fixture(scope="session")
def small_flags():
    """The same changes to `configs/tras_digits.py`, as flags."""
    return [f"--config.{field}={value}" for field, value in SMALL.items()]
