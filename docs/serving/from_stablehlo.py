"""Names the class of images: python from_stablehlo.py ARTIFACT IMAGES... (jax, pillow)."""

import json
import sys
import zipfile

import numpy as np
from jax import export
from PIL import Image, ImageOps

with zipfile.ZipFile(sys.argv[1]) as file:
    facts = json.loads(file.read("facts.json"))
    model = export.deserialize(bytearray(file.read("model.stablehlo")))
height, width, channels = facts["image_shape"]
resizes = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(facts["mode"])
    if facts["resize"]:
        image = resizes[facts["resize"]](image, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(1, height, width, channels)
    probs = np.asarray(model.call(pixels)["probabilities"][0])
    print(path, facts["class_names"][probs.argmax()], f"{probs.max():.6f}", sep="\t")
