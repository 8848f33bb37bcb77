"""Students of a board's teachers, with what their training may add."""

from .board import MASKCLIP
from .options import COMBINATION, SWITCHES, SWITCHES_OF_ALL, SWITCHES_WRITTEN


def students(board, steps, train):
    """-> {(teacher, switch): ([mIoU] of the teachers, of their students) on test scenes}

    Args:
        steps: of `Board.combination`.
        train: (member, {key: value} of a student's config) -> mIoU in per cent.
    """
    found, teachers = {}, teachers_of(steps, board.families)

    def add(teacher, options, switch, settings):
        rows = board.kept_or(['student', settings], lambda member: train(member, settings))
        found[teacher, switch] = board.figures(options, 'test'), rows

    for teacher, options in teachers.items():
        for switch, more in SWITCHES.items():
            if switch in SWITCHES_OF_ALL or teacher == list(teachers)[-1]:  # the best teacher
                add(teacher, options, switch, {**of_teacher(options), **more})
    best = steps[-1][1]
    for switch, more in SWITCHES_WRITTEN.items():
        add(COMBINATION, best, switch, {'pseudo_labels': best, **more})
    return found


def teachers_of(steps, families):
    """[(option, options)] -> {name: options} of MaskCLIP, of its best readout, and with a prior.

    A teacher reads whole inputs at the student's size, and what acts on labels is left out.
    """
    found = {MASKCLIP: {}}
    for name, options in steps:
        if name in families['readout']:
            found[name] = options
        elif name in families['prior']:
            found[f'{list(found)[-1]}, {name}'] = options
    return found


def of_teacher(options):
    """{'model.backbone.readout': ...} -> {'model.teacher.backbone.readout': ...}"""
    return {f'model.teacher.{key.removeprefix("model.")}': v for key, v in options.items()}
