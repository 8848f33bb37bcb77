"""Label photos by several models: a row a photo, the photo and each model's labels side by side.

python tools/analysis/compare_models.py PHOTOS --models MODEL MODEL --names MaskCLIP student \\
    [--classes "dog, grass, sky"] --out picture.png
"""

from pathlib import Path

from mmseg.apis.command import add_device, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import Progress


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('photos', help='a photo, or a folder')
    parser.add_argument('--models', nargs='+', required=True, help='each as `segment --model`')
    parser.add_argument('--names', nargs='+', help="of the models; default the files'")
    parser.add_argument('--classes', help="default the models'")
    parser.add_argument('--width', type=int, default=320, help='pixels of a photo in the picture')
    parser.add_argument('--out', type=Path, required=True, help='a .png')
    add_device(parser)
    args = parser.parse_args()
    args.names = args.names or [Path(model).stem for model in args.models]
    if len(args.names) != len(args.models):
        raise UserError(f'{len(args.models)} --models have {len(args.names)} --names')
    if args.width < 32:
        raise UserError(f'--width is 32 pixels or more, not {args.width}')
    import numpy as np
    from PIL import Image

    from mmseg.apis import init_model, segment
    from mmseg.apis.inference import as_photo
    from mmseg.apis.result import write_image
    from mmseg.datasets.reading import list_photos
    from mmseg.visualization import beside, blend, contact_sheet, legend, shares_of, with_names

    paths = list_photos(args.photos)
    models = [init_model(model, device=args.device) for model in args.models]
    if args.classes is None and len({tuple(m.vocabulary.labels) for m in models}) > 1:
        raise UserError('the models have other classes; name those to compare by --classes')
    rows, shown = [], []
    with Progress(len(paths), 'compare', unit='photo') as progress:
        for path in paths:
            photo = as_photo(path)
            size = (args.width, max(1, round(args.width * photo.height / photo.width)))
            small, row = np.asarray(photo.resize(size)), []
            for model in models:
                found = segment(model, photo, args.classes)
                whole = Image.fromarray(found.labels.astype(np.int32))
                labels = np.asarray(whole.resize(size, Image.Resampling.NEAREST))
                tinted = blend(small, labels, found.palette)
                row.append(with_names(tinted, labels, found.names))
                shown.append(labels.ravel())
            rows.append([small, *row])
            progress.update(1)
    sheet = contact_sheet(rows, ['photo', *args.names])
    shares = shares_of(np.concatenate(shown), len(found.names))
    side = legend(shares, found.names, found.palette, height=len(sheet), size=14)
    write_image(Image.fromarray(beside([sheet, side])), args.out)
    print(f'written to {args.out}')


if __name__ == '__main__':
    run_command(main)
