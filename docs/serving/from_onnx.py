"""Names the class of images: python from_onnx.py ARTIFACT IMAGES... (onnxruntime, pillow)."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = json.loads(model.get_modelmeta().custom_metadata_map["facts"])
height, width, channels = facts["image_shape"]
resizes = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}
for path in sys.argv[2:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(facts["mode"])
    if facts["resize"]:
        image = resizes[facts["resize"]](image, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(1, height, width, channels)
    probs = model.run(["probabilities"], {"images": pixels})[0][0]
    print(path, facts["class_names"][probs.argmax()], f"{probs.max():.6f}", sep="\t")
