"""Run a file of tools/export.py; needs numpy, pillow and onnxruntime, not this project.

python demo/run_exported.py MODEL.onnx PHOTO OUT.png [LONGEST_SIDE]

The photo is resized as the model's file says, or to LONGEST_SIDE pixels. OUT.png holds each pixel's
class: 8 bits and the classes' colours, or 16 bits where there are more than 256 classes.
"""

import io
import json
import os
import sys
from pathlib import Path

try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps
except ImportError as error:
    sys.exit(f'error: {error}; run: pip install numpy pillow onnxruntime')
except KeyboardInterrupt:
    sys.exit(130)

FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF')  # opening EPS would start Ghostscript


class Mistake(Exception):
    """An error that the user can mend, in one line."""


def main(arguments):
    if len(arguments) not in (3, 4):
        raise Mistake('usage: run_exported.py MODEL.onnx PHOTO OUT.png [LONGEST_SIDE]')
    model, photo, out = map(Path, arguments[:3])
    if out.suffix.lower() != '.png' or out.resolve() in (model.resolve(), photo.resolve()):
        raise Mistake(f'{out} is to be a .png other than the photo')
    side = positive(arguments[3]) if arguments[3:] else None
    session, classes, palette, resize = load(model)
    image = read(photo)
    try:
        small = resized(image, [dict(fit=(side, side))] if side else resize)
    except (MemoryError, OverflowError, ValueError) as error:
        raise Mistake(f'{photo} cannot be resized to {resize}: {first_line(error)}') from error
    scores = run(session, np.float32(small).transpose(2, 0, 1)[None], len(classes))
    labels = scores.argmax(axis=0).astype(np.uint8 if len(classes) <= 256 else np.uint16)
    labels = Image.fromarray(labels).resize(image.size, Image.Resampling.NEAREST)
    if labels.mode == 'L':
        labels.putpalette(np.uint8(palette).tobytes())
    write(labels, out)
    shares = np.bincount(np.asarray(labels).ravel(), minlength=len(classes)) / labels.size[0]
    for name, share in zip(classes, shares / labels.size[1]):
        print(f'{name:20} {100 * share:5.1f} %')


def positive(text):
    if not (text.isdecimal() and 0 < int(text) <= 8192):
        raise Mistake(f'LONGEST_SIDE is a number of pixels up to 8192, not {text}')
    return int(text)


def load(path):
    """-> the session, its classes, their colours, and how it wants photos to be resized"""
    if not path.is_file():
        raise Mistake(f'no such model: {path}')
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # onnxruntime's errors have no common type
        raise Mistake(f'{path} cannot be read as an ONNX model: {first_line(error)}') from error
    known = session.get_modelmeta().custom_metadata_map
    try:
        classes, palette = json.loads(known['classes']), json.loads(known['palette'])
        resize = json.loads(known.get('resize', '[{"fit": [520, 520]}]'))
        require_numbers(palette, (len(classes), 3), range(256))
        sizes = [
            [step['short_side'], step['multiple']] if 'short_side' in step else step['fit']
            for step in resize
        ]
        require_numbers(sizes, (len(resize), 2), range(1, 2**31))
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f'no names: {classes}'[:200])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Mistake(f'{path} was not written by tools/export.py: {error!r}') from error
    return session, classes, palette, resize


def require_numbers(rows, shape, allowed):
    """Raise ValueError unless `rows` are whole numbers of a shape in a range."""
    values = np.array(rows, dtype=object).reshape(shape)
    if not all(type(value) is int and value in allowed for value in values.flat):
        raise ValueError(f'no whole numbers from {allowed[0]} to {allowed[-1]}: {rows}'[:200])


def read(path):
    """-> the photo, RGB, turned as its EXIF says"""
    if not path.is_file():
        raise Mistake(f'no such photo: {path}')
    try:
        with Image.open(path, formats=FORMATS) as image:
            return ImageOps.exif_transpose(image).convert('RGB')
    except Exception as error:  # Pillow's errors about damaged files have no common type
        raise Mistake(f'{path} cannot be read as a photo: {first_line(error)}') from error


def resized(image, steps):
    """A photo -> the network's input, by the steps that `mmseg.apis.export.resizing` wrote"""
    for step in steps:
        width, height = image.size
        if 'short_side' in step:
            factor = step['short_side'] / min(width, height) / step['multiple']
            size = [max(1, round(x * factor)) * step['multiple'] for x in image.size]
            image = image.resize(size, Image.Resampling.BICUBIC)
        else:
            long, short = max(step['fit']), min(step['fit'])
            factor = min(long / max(width, height), short / min(width, height))
            w, h = (max(1, int(x * factor + 0.5)) for x in image.size)
            matrix = (width / w, 0, 0, 0, height / h, 0)  # bilinear without smoothing, as OpenCV's
            image = image.transform(
                (w, h), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
            )
    return image


def run(session, image, classes):
    """(1, 3, H, W) -> (C, H, W) scores"""
    try:
        (scores,) = session.run(None, {'image': image})
    except Exception as error:
        height, width = image.shape[2:]
        raise Mistake(f'the model cannot run on {width}x{height}: {first_line(error)}') from error
    if scores.shape != (1, classes, *image.shape[2:]) or not np.isfinite(scores).all():
        raise Mistake(f'the model gives scores {scores.shape} that are not those of its classes')
    return scores[0]


def write(labels, path):
    buffer = io.BytesIO()
    labels.save(buffer, 'png')
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise Mistake(f'cannot write {path}: {error.strerror}') from error


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


if __name__ == '__main__':
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
    except Mistake as mistake:
        sys.exit(f'error: {mistake}')
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # of standard output, which Python would flush again
        print(f'error: cannot write the shares: {error.strerror}', file=sys.stderr)
        os._exit(1)
