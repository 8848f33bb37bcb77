"""Run a file of tools/export.py; needs numpy, pillow and onnxruntime, not this project.

python demo/run_exported.py MODEL.onnx PHOTO OUT.png [LONGEST_SIDE]
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, out, side = (*sys.argv[1:4], int(sys.argv[4]) if len(sys.argv) > 4 else 520)
session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
known = session.get_modelmeta().custom_metadata_map
image = ImageOps.exif_transpose(Image.open(photo)).convert('RGB')
small = ImageOps.contain(image, (side, side), Image.BILINEAR)
scores = session.run(None, {'image': np.float32(small).transpose(2, 0, 1)[None]})[0][0]
labels = Image.fromarray(scores.argmax(axis=0).astype(np.uint8)).resize(image.size, Image.NEAREST)
labels.putpalette(np.uint8(json.loads(known['palette'])).tobytes())
labels.save(out)
for i, name in enumerate(json.loads(known['classes'])):
    print(f'{name:20} {100 * np.mean(np.asarray(labels) == i):5.1f} %')
