"""Students on the Hugging Face hub or in a folder: safetensors, config.json, a model card."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin, constants, hf_hub_download

from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir, read_json, reason_of
from mmseg.vocabularies import load_vocabulary

from .student_file import require_description, write_student

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
CARD = """---
license: {license}
library_name: maskclip-plus
pipeline_tag: image-segmentation
tags:
- semantic-segmentation
- maskclip
---

# {name}

A network that segments photos into {count} classes: a student of MaskCLIP+, which learned the
labels that MaskCLIP reads out of a frozen CLIP.

## Use

With the package maskclip-plus:

```bash
maskclip segment my_photos --model {name} --out segmented
```

```python
from mmseg.apis import init_model, segment

segment(init_model('{name}'), 'photo.jpg').save('overlay.png')
```

## Classes

{classes}

## Training

| | |
|---|---|
{training}

{annotations}

## Figures

{figures}

## Licence

{licence}
"""


class HubStudent(ModelHubMixin):
    """`from_pretrained`, `save_pretrained` and `push_to_hub` for students.

    Attributes:
        description: see `describe_student`; None of a student that was built from parts.
    """

    description: dict[str, Any] | None = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """Build a student from a folder of `save_pretrained`, or from the hub at `HF_ENDPOINT`.

        Args:
            pretrained_model_name_or_path: the folder, or 'user/name'.
            options: of the hub's client: revision, token, cache_dir, local_files_only, ...

        Raises:
            UserError: no such folder or repository, or one without a student of this project.
        """
        description, weights = fetch_student(pretrained_model_name_or_path, **options)
        from .build import build

        student = build(dict(description['model'], checkpoint=str(weights))).eval()
        student.description = description
        return student

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> Any:
        """Write model.safetensors, config.json and, unless there is one, README.md into a folder.

        Args:
            save_directory: the folder.
            options: `model_card_kwargs=dict(name=..., license=...)` for the card, see `card_of`;
                and those of the mixin.

        Raises:
            UserError: a student that does not know its config, or a folder that is not writable.
        """
        self._described()
        return super().save_pretrained(output_dir(save_directory), **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Upload what `save_pretrained` writes to the hub at `HF_ENDPOINT`; return the address.

        Args:
            repo_id: 'user/name', which is made if it does not exist.
            options: `private`, `token` and others of the mixin; and see `save_pretrained`.

        Raises:
            UserError: see `save_pretrained`; or the hub refuses.
        """
        self._described()
        card = dict(name=repo_id) | (options.pop('model_card_kwargs', None) or {})
        with _hub_errors(f'{repo_id} cannot be pushed to {constants.ENDPOINT}'):
            return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """Write the card, for the mixin."""
        return ModelCard(card_of(self._described(), **options))

    def _save_pretrained(self, save_directory: Path) -> None:
        description = self._described()
        write_student(self.state_dict(), description, save_directory / WEIGHTS)  # type: ignore[attr-defined]
        with atomic_path(save_directory / CONFIG) as temporary:
            temporary.write_text(json.dumps(description, indent=1), encoding='utf-8')

    def _described(self) -> dict[str, Any]:
        if self.description is None:
            raise UserError(
                'this student does not know its config; load it by mmseg.apis.init_model or by '
                'MaskClipPlus.from_pretrained'
            )
        return self.description


def fetch_student(name: str | Path, **options: Any) -> tuple[dict[str, Any], Path]:
    """Find the description and the weights of a student in a folder, or on the hub.

    Args:
        name: the folder, or 'user/name'.
        options: of `hf_hub_download`.

    Raises:
        UserError: see `HubStudent.from_pretrained`.
    """
    if Path(name).is_dir():
        files = [Path(name, file) for file in (CONFIG, WEIGHTS)]
        for path in files:
            if not path.is_file():
                raise UserError(f'the folder {name} holds no student: it lacks {path.name}')
    else:
        print(
            f'student {name}: from {constants.ENDPOINT}, or its cache', file=sys.stderr, flush=True
        )
        problem = f'{name} is neither here nor can it be fetched from {constants.ENDPOINT}'
        with _hub_errors(problem):
            files = [
                Path(hf_hub_download(str(name), file, **options)) for file in (CONFIG, WEIGHTS)
            ]
    config, weights = files
    return require_description(read_json(config), f'{name}/{CONFIG}'), weights


@contextmanager
def _hub_errors(problem: str) -> Iterator[None]:
    try:
        logging.disable(logging.ERROR)  # the hub client repeats every retry
        yield
    except UserError:
        raise
    except Exception as error:  # the hub client's errors have no common type
        raise UserError(f'{problem}: {reason_of(error)}') from error
    finally:
        logging.disable(logging.NOTSET)


def card_of(description: dict[str, Any], name: str = 'FOLDER', license: str = 'other') -> str:
    """Write the model card of a student.

    Args:
        description: see `describe_student`.
        name: what a reader loads it by: 'user/name', or a folder.
        license: of the weights, in the hub's terms.
    """
    training, metrics = dict(description['training']), description['metrics']
    labels = load_vocabulary(description['model']['vocabulary']).labels
    unseen = training.pop('unseen', 'all')
    annotations = 'No mask of any class was used in training.'
    if unseen != 'all':
        annotations = f'Masks were used in training, but none of {", ".join(map(str, unseen))}.'
    network = description['model']
    rows = dict(backbone=_named(network['backbone']), head=_named(network['decode_head']))
    rows |= {key.replace('_', ' '): value for key, value in training.items()}
    figures = [f'| {key} | {100 * value:.2f} |' for key, value in _overall(metrics).items()]
    table = '\n'.join(['| | per cent |', '|---|---|', *figures])
    if description.get('measured_on'):
        table += f'\n\nMeasured on {description["measured_on"]}.'
    return CARD.format(
        name=name,
        license=license,
        count=len(labels),
        classes=', '.join(labels),
        training='\n'.join(f'| {key} | {value} |' for key, value in rows.items()),
        annotations=annotations,
        figures=table if figures else 'None is recorded.',
        licence=_licence_text(training, license),
    )


def _named(settings: dict[str, Any]) -> str:
    """dict(type='TimmBackbone', model='resnet50') -> 'TimmBackbone resnet50'"""
    return ' '.join(str(settings[key]) for key in ('type', 'model', 'size') if key in settings)


def _overall(metrics: dict[str, Any]) -> dict[str, float]:
    """Leave out figures of single classes, and those that are no numbers"""
    return {k: v for k, v in metrics.items() if '.' not in k and isinstance(v, (int, float))}


def _licence_text(training: dict[str, Any], license: str) -> str:
    from mmseg.preparation.sources import MIT_LICENCE

    lines = ['The code is licensed under Apache-2.0.']
    start = str(training.get('start', ''))
    if start.startswith('mit_b'):
        lines.append(f'Training started from {start}: {MIT_LICENCE}.')
    elif start and start != 'False':
        lines.append(f'Training started from ImageNet weights ({start}), which have their own.')
    if license == 'other':
        lines.append('Who publishes these weights names their licence here.')
    else:
        lines.append(f'The weights are published under {license}.')
    return ' '.join(lines)
