from .functional import zero_shot_scores


def score_table(labels, scores, unseen=()):
    """Class names, Scores, ids -> text: one row a class and the means, in per cent."""
    width = max(len(label) for label in (*labels, 'class'))
    rows = [f'{"class":{width}}    IoU     Acc    Prec', '-' * (width + 24)]
    for label, *values in zip(labels, scores.iou, scores.acc, scores.prec):
        rows.append(f'{label:{width}} ' + ' '.join(_percent(value) for value in values))
    present = scores.iou[scores.present].mean()
    rows += [
        '-' * (width + 24),
        f'aAcc {_percent(scores.all_acc)}   mIoU {_percent(scores.iou.nanmean())}   '
        f'mAcc {_percent(scores.acc.nanmean())}   mPrec {_percent(scores.prec.nanmean())}',
        f'mIoU over the {int(scores.present.sum())} classes present {_percent(present)}',
    ]
    means = zero_shot_scores(scores.iou, unseen)
    if means:
        rows.append('   '.join(f'{name} {_percent(value)}' for name, value in means.items()))
    return '\n'.join(rows)


def _percent(value):
    return f'{"-" if value.isnan() else format(100 * float(value), ".2f"):>7}'
