"""Names the class of images: python from_savedmodel.py ARTIFACT IMAGES... (tensorflow, pillow)."""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

facts = json.loads(pathlib.Path(sys.argv[1], "assets", "facts.json").read_text("utf-8"))
model = tf.saved_model.load(sys.argv[1])
height, width, channels = facts["image_shape"]
resizes = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(facts["mode"])
    if facts["resize"]:
        image = resizes[facts["resize"]](image, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(1, height, width, channels)
    probs = model.signatures["serving_default"](images=pixels)["probabilities"][0].numpy()
    print(path, facts["class_names"][probs.argmax()], f"{probs.max():.6f}", sep="\t")
