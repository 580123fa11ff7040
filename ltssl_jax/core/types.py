"""The words for arrays.

Shape letters: `B` labeled batch, `U` unlabeled batch, `S` strong views, `K` classes, `D` features,
`N` size of a set, `H W C` image. Inside a step the batch letters mean one device's share.
"""

from typing import Any

import jax

Array = jax.Array
PyTree = Any
Images = Array  # [..., H, W, C]
