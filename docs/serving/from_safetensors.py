"""Names the class of images: python from_safetensors.py ARTIFACT IMAGES... (this library)."""

import sys

import numpy as np
from PIL import Image, ImageOps

from ltssl_jax.exporting import safetensors  # for other programs the file holds the weights alone

facts = safetensors.facts(sys.argv[1])
model = safetensors.read_back(sys.argv[1])
height, width, channels = facts["image_shape"]
resizes = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(facts["mode"])
    if facts["resize"]:
        image = resizes[facts["resize"]](image, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(1, height, width, channels)
    probs = model(pixels)["probabilities"][0]
    print(path, facts["class_names"][probs.argmax()], f"{probs.max():.6f}", sep="\t")
