"""Eight fake devices, cheap compilation, strict ranks, an empty cache; before jax is imported."""

import atexit
import gc
import os
import shutil
import sys
import tempfile

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
# What is found out about data is kept between runs; no test may find what another one left.
os.environ["XDG_CACHE_HOME"] = _CACHE = tempfile.mkdtemp(prefix="ltssl_jax_")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
# Traces are millions of objects that stay; looking through them again and again takes long.
gc.set_threshold(100_000, 50, 50)


def pytest_runtest_teardown(item, nextitem):
    """Forgets compiled programs with the file that used them: thousands at once are too many."""
    if nextitem is None or nextitem.path != item.path:
        if "jax" in sys.modules:
            sys.modules["jax"].clear_caches()
