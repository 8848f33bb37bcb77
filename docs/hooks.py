"""Pages of the documentation site that are made at build time: the root's documents, the API."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    'README.md': 'index.md',
    'CONTRIBUTING.md': 'contributing.md',
    'CHANGELOG.md': 'changelog.md',
}
OUTSIDE = ('LICENSE', 'NOTICE')  # no pages: their links become plain words
API = {
    'apis': ('Inference', ['mmseg.apis.inference', 'mmseg.apis.result', 'mmseg.apis.propose']),
    'models': ('Models', ['mmseg.models']),
    'clip': ('CLIP', ['mmseg.clip', 'mmseg.clip.readout']),
    'datasets': ('Data sets and transforms', ['mmseg.datasets']),
    'evaluation': ('Evaluation and pictures', ['mmseg.evaluation', 'mmseg.visualization']),
    'vocabularies': ('Vocabularies', ['mmseg.vocabularies']),
    'engine': ('Configs and training', ['mmseg.engine']),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's documents and one page per package of the API."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding='utf-8')
        files.append(File.generated(config, page, content=_relink(text)))
    for page, (title, packages) in API.items():
        blocks = '\n\n'.join(f'::: {package}' for package in packages)
        files.append(File.generated(config, f'api/{page}.md', content=f'# {title}\n\n{blocks}\n'))
    return files


def _relink(text: str) -> str:
    """Make a root document's links relative to docs/."""
    text = text.replace('](docs/', '](')
    for source, page in PAGES.items():
        text = text.replace(f']({source}', f']({page}')
    return re.sub(rf'\[([^]]*)\]\((?:{"|".join(OUTSIDE)})\)', r'\1', text)
