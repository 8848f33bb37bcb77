"""Students on the Hugging Face hub or in a folder: safetensors, config.json, a model card."""

import sys
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, constants, hf_hub_download

from mmseg.errors import UserError
from mmseg.utils import hub_errors, output_dir, read_json, write_json
from mmseg.vocabularies import load_vocabulary

from .student_file import require_description, write_student

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
CARD = Path(__file__).with_name('model_card.md')  # a template of jinja2
TAGS = ['semantic-segmentation', 'maskclip']


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
        problem = f'{repo_id} cannot be pushed to {constants.ENDPOINT}'
        with hub_errors(problem, 'check the name, the token and the connection'):
            return super().push_to_hub(repo_id, model_card_kwargs=card, **options)

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """Write the card, for the mixin."""
        return card_of(self._described(), **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        description = self._described()
        write_student(self.state_dict(), description, save_directory / WEIGHTS)  # type: ignore[attr-defined]
        write_json(save_directory / CONFIG, description)

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
        with hub_errors(problem, 'check the name and the connection'):
            files = [
                Path(hf_hub_download(str(name), file, **options)) for file in (CONFIG, WEIGHTS)
            ]
    config, weights = files
    return require_description(read_json(config), f'{name}/{CONFIG}'), weights


def card_of(description: dict[str, Any], name: str = 'FOLDER', license: str = 'other') -> ModelCard:
    """Write the model card of a student.

    Args:
        description: see `describe_student`.
        name: what a reader loads it by: 'user/name', or a folder.
        license: of the weights, in the hub's terms.
    """
    from mmseg.preparation.sources import MIT_LICENCE

    network, training = description['model'], dict(description['training'])
    unseen = training.pop('unseen', 'all')
    rows = dict(backbone=_named(network['backbone']), head=_named(network['decode_head']))
    rows |= {key.replace('_', ' '): value for key, value in training.items()}
    metrics = description['metrics'].items()  # some of single classes, some no numbers
    overall = {k: v for k, v in metrics if '.' not in k and isinstance(v, (int, float))}
    data = ModelCardData(
        license=license, library_name='maskclip-plus', pipeline_tag='image-segmentation', tags=TAGS
    )
    return ModelCard.from_template(
        data,
        template_path=str(CARD),
        name=name,
        labels=load_vocabulary(network['vocabulary']).labels,
        training=rows,
        unseen=unseen,
        start=str(training.get('start') or ''),
        metrics=overall,
        measured_on=description.get('measured_on'),
        mit_licence=MIT_LICENCE,
    )


def _named(settings: dict[str, Any]) -> str:
    """dict(type='TimmBackbone', model='resnet50') -> 'TimmBackbone resnet50'"""
    return ' '.join(str(settings[key]) for key in ('type', 'model', 'size') if key in settings)
