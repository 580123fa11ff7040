"""Long-tailed semi-supervised image classification in JAX.

The pipeline reads in the order of the packages: `data`, `augment`, `models`, `losses`, `methods`,
`training`, `evaluation`, `parallel`. `experiment.train` tells the whole story on one page.
"""

__version__ = "0.1.0"
