"""Metadata of the package; build system and tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent

# TensorFlow is needed only by the `tfds` source and the `tfdata` feed, which import it when they
# run. It is installed where a wheel exists, so that the CIFAR and SVHN configs work at once.
TENSORFLOW = [
    "tensorflow-cpu>=2.20; platform_system == 'Linux' and platform_machine == 'x86_64'"
    " and python_version < '3.14'",
    "tensorflow>=2.20; (platform_system != 'Linux' or platform_machine != 'x86_64')"
    " and python_version < '3.14'",
    "tensorflow-datasets>=4.9.9",
    "importlib_resources",  # tensorflow-datasets 4.9.10 imports it without asking for it
]

setup(
    name="ltssl_jax",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "ltssl_jax/__init__.py").read_text())[1],
    description="Long-tailed semi-supervised image classification in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["ltssl_jax*"]),
    package_data={"ltssl_jax": ["data/sources/*.txt", "*/*.html"]},
    install_requires=[
        "jax>=0.10",
        "flax>=0.12",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30,<1",
        "ml-collections>=1.0",
        "chex>=0.1.90",
        "absl-py>=2.1",
        "numpy>=2.0",
        "pillow>=10",
        "imagehash>=4.3",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "rich>=13",
        "scikit-learn>=1.6",
        "scipy>=1.11",
        "tensorboardX>=2.6",
        "threadpoolctl>=3.1",
        *TENSORFLOW,
    ],
    extras_require={
        "cuda": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        "parquet": ["pyarrow>=15"],
        "wandb": ["wandb>=0.17"],
        # What `ltssl_jax.export` needs beside TensorFlow. jax2onnx holds orbax-checkpoint at 0.11,
        # with which this library works, too.
        "export": ["flatbuffers>=24", "safetensors>=0.4"],
        "onnx": ["jax2onnx>=0.17", "onnxruntime>=1.24"],
        "docs": ["sphinx>=7.2", "myst-parser>=4", "furo>=2024.8"],
        "test": [
            "pyarrow>=15",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "scikit-learn>=1.8",
            "flatbuffers>=24",
            "safetensors>=0.4",
            "sphinx>=7.2",
            "myst-parser>=4",
            "furo>=2024.8",
            "imbalanced-learn>=0.12",
            "ruff>=0.9",
        ],
    },
    entry_points={
        "console_scripts": [
            "ltssl-train = ltssl_jax.main:cli",
            "ltssl-inspect = ltssl_jax.inspect:cli",
            "ltssl-sweep = ltssl_jax.sweep:cli",
            "ltssl-report = ltssl_jax.report.__main__:cli",
            "ltssl-predict = ltssl_jax.predict:cli",
            "ltssl-evaluate = ltssl_jax.evaluate:cli",
            "ltssl-suggest = ltssl_jax.suggest:cli",
            "ltssl-export = ltssl_jax.export:cli",
        ]
    },
)
