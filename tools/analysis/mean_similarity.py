"""Write the mean cosine of each class with the photos of a data set, without masks -> .npy.

python tools/analysis/mean_similarity.py CONFIG --out means.npy [--loader train_dataloader]
python tools/test.py CONFIG --cfg-options class_weight.mean_similarity=means.npy ...

CLIP scores some words high on every photo. A class weight subtracts these cosines
(`class_weight.mean_similarity`) and so lifts classes above their mean. The config needs a
`class_weight`, whose text and prior crop are used.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseg.apis.command import add_config_arguments, add_device, documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import Progress, atomic_path, output_dir

if TYPE_CHECKING:
    from torch import Tensor


def main() -> None:
    parser = documented_parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument('--out', required=True, help='.npy')
    parser.add_argument('--loader', default='test_dataloader', help='whose photos')
    add_device(parser)
    args = parser.parse_args()
    from mmseg.apis.test import require_data
    from mmseg.engine import allow_tf32, device_of, load_config
    from mmseg.registry import MODELS

    config = load_config(args.config, args.cfg_options)
    if not config.get('class_weight'):
        raise UserError(f'{args.config} has no class_weight that the cosines could be of')
    config.model.class_weight.pop('mean_similarity', None)
    output_dir(Path(args.out).parent)
    allow_tf32(False)
    dataset = require_data(config.get(args.loader))
    model = MODELS.build(config.model).to(device_of(args.device))
    cosines = mean_cosines(model, dataset).cpu().numpy()
    with atomic_path(args.out) as temporary:
        np.save(temporary, cosines)
    print(f'{len(cosines)} mean cosines over {len(dataset)} photos written to {args.out}')


def mean_cosines(model: Any, dataset: Any) -> 'Tensor':
    """Return each class's mean cosine (C) with the photos of a data set."""
    import torch

    device, total = next(model.buffers()).device, 0
    by_crop = model.prior_crop == 'clip'
    with torch.inference_mode(), Progress(len(dataset), 'photos', unit='photo') as progress:
        for i in range(len(dataset)):
            packed = dataset[i]
            image = packed['data_samples'].prior_crop if by_crop else packed['inputs']
            embedding = model.class_weight.embed(image.to(device)[None], model.backbone)
            total = total + model.class_weight.cosines(embedding)[0]
            progress.update()
    return total / len(dataset)


if __name__ == '__main__':
    run_command(main)
