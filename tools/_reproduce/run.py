"""Fetch, prepare, evaluate and train, each by the project's own commands; keep what was found."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyze_logs import read_run

from mmseg.apis.test import require_data
from mmseg.engine import load_config
from mmseg.errors import UserError
from mmseg.utils import digest_file, in_checkout, read_json, write_json

from .rows import VALIDATIONS, Row

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
SCHEMA = 1
OPENAI = '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f'  # sha256 of ViT-B-16.pt
PHOTOS = (5104, 5105)  # of the val split: the published list, and all that the release marks
PRETRAIN = in_checkout('pretrain')
WEIGHTS = ('.pt', '.pth', '.bin', '.safetensors')
NAMED = ('device', 'Python', 'GPU 0', 'PyTorch', 'TorchVision', 'OpenCV', 'MMEngine')


class Reproduction:
    """The figures of one work folder, kept in its reproduction.json after each of them.

    Args:
        work_dir: gets reproduction.json, the runs' folders and their logs.
        device: as tools/test.py takes it; None for the best there is.
        overrides: `--cfg-options` of every command; figures with any are marked as stand-ins.

    Raises:
        UserError: the file of figures is damaged, or of other overrides.
    """

    def __init__(self, work_dir: Path, device: str | None, overrides: Sequence[str]) -> None:
        self.work_dir, self.device, self.overrides = work_dir, device, list(overrides)
        self.path = work_dir / 'reproduction.json'
        self.found: dict[str, Any] = dict(schema=SCHEMA, overrides=self.overrides, rows={})
        if self.path.is_file():
            self.found = read_json(self.path)
            if not isinstance(self.found, dict) or self.found.get('schema') != SCHEMA:
                raise UserError(f'{self.path} is no file of this tool; move it away')
            if self.found['overrides'] != self.overrides:
                raise UserError(f'{self.path} is of other --cfg-options; choose another --work-dir')

    def save(self) -> None:
        write_json(self.path, self.found)

    def figures(self, row: Row, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Return what is known of a row, a dict per seed; a test has one for all seeds."""
        known = self.found['rows'].get(row.key, {})
        wanted = map(str, seeds if row.iterations else [0])
        return [known[seed] for seed in wanted if seed in known]

    def measure(self, row: Row, seeds: Sequence[int], parts: int) -> None:
        """Measure what is missing of a row; a stopped training goes on.

        Raises:
            UserError: a command failed; its last words are in the message.
        """
        for seed in seeds if row.iterations else [0]:
            if str(seed) in self.found['rows'].get(row.key, {}):
                continue
            folder, checkpoint = self.work_dir / f'{row.key}-{seed}', []
            started = time.monotonic()
            if row.iterations:
                self.train(row, folder, seed, parts)
                checkpoint = [folder / 'latest.pth']
            command = [TOOLS / 'test.py', self.config(row), *checkpoint, '--eval', 'mIoU']
            command += ['--work-dir', folder / 'test', *self.options(row)]
            self.call(command, folder / 'test.log')
            result = read_json(max((folder / 'test').glob('eval_*.json')))
            self.found['rows'].setdefault(row.key, {})[str(seed)] = dict(
                mIoU=round(100 * result['metric']['mIoU'], 2),
                photos=result['photos'],
                protocol=result['protocol'],
                command=shown(command),
                seconds=round(time.monotonic() - started),
                weights_sha256=result['weights_sha256'],
                environment={k: v for k, v in result['environment'].items() if k in NAMED},
                date=time.strftime('%Y-%m-%d'),
                curve=curve_of(folder) if row.iterations else [],
            )
            self.save()

    def corrupt(self, row: Row, seeds: Sequence[int]) -> None:
        """Evaluate a row under the common corruptions, into FOLDER/corruptions."""
        for seed in seeds if row.iterations else [0]:
            folder = self.work_dir / f'{row.key}-{seed}'
            checkpoint = [folder / 'latest.pth'] if row.iterations else []
            command = [TOOLS / 'analysis' / 'corruptions.py', self.config(row), *checkpoint]
            command += ['--work-dir', folder / 'corruptions', *self.options(row)]
            self.call(command, folder / 'corruptions.log')

    def train(self, row: Row, folder: Path, seed: int, parts: int) -> None:
        """Train a student, or continue its training; nothing where it is finished."""
        command = [TOOLS / 'train.py', self.config(row), '--work-dir', folder, '--seed', seed]
        if parts > 1:
            command += ['--accumulate', parts]
        if (folder / 'latest.pth').is_file():
            command += ['--resume']
        self.call([*command, *self.options(row)], folder / 'train.log')

    def config(self, row: Row) -> Path:
        return ROOT / 'configs' / f'{row.config}.py'

    def options(self, row: Row) -> list[str]:
        """Return the options that a row's commands share."""
        device = ['--device', self.device] if self.device else []
        overrides = self.overrides_of(row)
        return [*device, '--cfg-options', *overrides] if overrides else device

    def overrides_of(self, row: Row) -> list[str]:
        """Return the `--cfg-options` of a row; a test alone has no `train_cfg`."""
        interval = row.iterations // VALIDATIONS
        rare = [f'train_cfg.val_interval={interval}'] if interval else []
        fitting = [x for x in self.overrides if row.iterations or not x.startswith('train_')]
        return [*rare, *row.options, *fitting]

    def call(self, command: Sequence[Any], log: Path, *, quiet: bool = False) -> None:
        """Run a script of this checkout, with its output in a file and, unless quiet, here.

        Raises:
            UserError: its exit code is not 0.
        """
        if not quiet:
            print(f'$ {shown(command)}', flush=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('a') as file:
            program = [sys.executable] if str(command[0]).endswith('.py') else ['bash']
            running = subprocess.Popen(
                [*program, *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert running.stdout is not None
            last = ''
            for line in running.stdout:
                file.write(line)
                last = line.strip() or last
                if not quiet:
                    print(f'  {line}', end='', flush=True)
        if running.wait():
            raise UserError(f'{Path(str(command[0])).name} failed ({log}): {last}')

    def describe(self, config: Path) -> None:
        """Note the digests of weights, split list and vocabulary, and whether they are real."""
        dataset = require_data(load_config(config).test_dataloader)
        split = Path(dataset.data_root, dataset.split)
        files = [p for p in sorted(Path(PRETRAIN).glob('*')) if p.suffix in WEIGHTS]
        weights = {path.name: digest_file(path) for path in files}
        real = OPENAI in weights.values() and len(dataset) in PHOTOS and not self.overrides
        self.found |= dict(
            stand_in=not real,
            weights=weights,
            split=dict(photos=len(dataset), sha256=digest_file(split)),
            vocabulary=list(dataset.metainfo['classes']),
        )
        self.save()


def shown(command: Sequence[Any]) -> str:
    """Format a command as a reader would type it in the checkout."""
    words = [str(word) for word in command]
    words = [w.removeprefix(f'{ROOT}/') for w in words]
    program = 'python' if words[0].endswith('.py') else 'bash'
    return ' '.join([program, *(f"'{w}'" if set(w) & set('{}" ') else w for w in words)])


def curve_of(folder: Path) -> list[tuple[float, float]]:
    """Read the validations of a training, resumed or not: [(iteration, mIoU in per cent)]."""
    rows = read_run(folder).items()
    return [(step, round(100 * row['mIoU'], 2)) for step, row in rows if 'mIoU' in row]
