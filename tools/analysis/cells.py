"""The mIoU of exact class shares on a coarse grid: what the cells alone cost a dense readout.

python tools/analysis/cells.py [--grids 2 3 4 5 6 8] [--scenes 300]

Each of the grid x grid cells of a test scene of the miniature gets the shares of the classes in it.
They are resized to the scene, as MaskCLIP's scores are, and the largest wins.
"""

from typing import TYPE_CHECKING

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--grids', type=int, nargs='+', default=[2, 3, 4, 5, 6, 8])
    parser.add_argument('--scenes', type=int, default=300)
    args = parser.parse_args()
    if min(args.scenes, *args.grids) < 1:
        raise UserError('--grids and --scenes are 1 or more')
    import torch

    from mmseg.datasets.miniature import LABELS, MiniatureDataset
    from mmseg.evaluation import confusion_matrix, scores_of

    data = MiniatureDataset(scenes=args.scenes, world=1)
    names = [data.get_data_info(i)['img_path'] for i in range(args.scenes)]
    masks = [torch.from_numpy(data.draw(name).mask).long() for name in names]
    for grid in args.grids:
        found = (coarse(mask, grid, len(LABELS)) for mask in masks)
        pairs = (confusion_matrix(f, m, len(LABELS)) for f, m in zip(found, masks))
        total = sum(pairs, torch.zeros(()))
        print(f'{grid} x {grid}: {100 * scores_of(total).iou.nanmean():.1f} mIoU')


def coarse(mask: 'Tensor', grid: int, classes: int) -> 'Tensor':
    """Label through a grid: (H, W) -> (H, W)"""
    import torch.nn.functional as F

    one_hot = F.one_hot(mask, classes).permute(2, 0, 1)[None].float()
    shares = F.interpolate(one_hot, size=(grid, grid), mode='area')
    return F.interpolate(shares, size=mask.shape, mode='bilinear').argmax(dim=1)[0]


if __name__ == '__main__':
    run_command(main)
