"""Students in a folder of the hub's layout, and on a hub: a loopback server at HF_ENDPOINT."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT
from safetensors.torch import load, load_file

from mmseg.apis import init_model
from mmseg.datasets.miniature import LABELS
from mmseg.errors import UserError
from mmseg.models import MaskClipPlus
from mmseg.models.hub import card_of

COMMIT = '0' * 40
USE = """
import sys
from mmseg.cli import dispatch
from mmseg.errors import UserError
from mmseg.models import MaskClipPlus
folder, scene = sys.argv[1:]
print(MaskClipPlus.from_pretrained(folder).push_to_hub('me/shapes', token='secret', private=True))
dispatch(['segment', scene, '--model', 'me/shapes', '--out', 'segmented'])
for name in ('me/nothing', 'me/..'):
    try:
        MaskClipPlus.from_pretrained(name)
    except UserError as error:
        print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub that a small student needs; `server.files` holds what it got."""

    def do_GET(self):
        repo, _, name = self.path[1:].partition('/resolve/main/')
        content = self.server.files.get((repo, name))
        if content is None:
            return self.answer(b'', 404, {'X-Error-Code': 'RepoNotFound'})
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(content, 200, {'ETag': f'"{etag}"', 'X-Repo-Commit': COMMIT})

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.server.posted.append((self.path, self.headers['Authorization'], body))
        address, result = f'http://{self.headers["Host"]}', {}  # of /api/validate-yaml
        if self.path == '/api/repos/create':
            result = dict(url=f'{address}/me/{json.loads(body)["name"]}')
        elif '/preupload/' in self.path:
            paths = [file['path'] for file in json.loads(body)['files']]
            result = dict(files=[dict(path=path, uploadMode='regular') for path in paths])
            for file in result['files']:
                file |= dict(shouldIgnore=False, oid=None)
        elif '/commit/' in self.path:
            repo = self.path.removeprefix('/api/models/').partition('/commit/')[0]
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    content = base64.b64decode(line['value']['content'])
                    self.server.files[repo, line['value']['path']] = content
            result = dict(commitUrl=f'{address}/{repo}/commit/{COMMIT}', commitOid=COMMIT)
        self.answer(json.dumps(result).encode(), 200, {})

    def answer(self, content, status, headers):
        self.send_response(status)
        for name, value in (headers | {'Content-Length': str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
        server.files, server.posted = {}, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope='module')
def folder(student_file, tmp_path_factory):
    path = tmp_path_factory.mktemp('hub') / 'shapes'
    init_model(student_file, device='cpu').student.save_pretrained(path)
    return path


def test_pushed_and_fetched_from_a_hub(hub, folder, tmp_path):
    """In a process of its own, since the hub's client reads HF_ENDPOINT when it is imported."""
    address = f'http://127.0.0.1:{hub.server_port}'
    variables = dict(HF_ENDPOINT=address, HF_HOME=str(tmp_path / 'hf'), HF_HUB_OFFLINE='0')
    variables['PYTHONPATH'] = str(ROOT)
    command = [sys.executable, '-c', USE, folder, ROOT / 'demo' / 'scenes' / 'heart.png']
    options = dict(cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True)
    done = subprocess.run([*map(str, command)], **options)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        f'{address}/me/shapes/commit/{COMMIT}',
        '1 of 1 photos segmented; written to segmented',
    ]
    for name, line in zip(('me/nothing', 'me/..'), lines[2:], strict=True):
        assert line.startswith(f'{name} is neither here nor can it be fetched from {address} (')
    path, key, body = hub.posted[0]
    assert path == '/api/repos/create' and key == 'Bearer secret' and b'private' in body
    pushed = {name: content for (repo, name), content in hub.files.items() if repo == 'me/shapes'}
    assert pushed.keys() == {'README.md', 'config.json', 'model.safetensors'}
    sent, kept = load(pushed['model.safetensors']), load_file(folder / 'model.safetensors')
    assert sent.keys() == kept.keys() and all(sent[name].equal(kept[name]) for name in kept)
    assert "init_model('me/shapes')" in pushed['README.md'].decode()


def test_a_folder_and_back(student_file, folder):
    student = MaskClipPlus.from_pretrained(folder)
    expected = init_model(student_file, device='cpu').student
    state = expected.state_dict()
    assert all(tensor.equal(state[name]) for name, tensor in student.state_dict().items())
    assert not student.training and student.description == expected.description
    assert json.loads((folder / 'config.json').read_text()) == expected.description
    (folder / 'README.md').write_text('mine')
    student.save_pretrained(folder)  # over the old files
    assert (folder / 'README.md').read_text() == 'mine'


def test_the_card(student_file, tmp_path):
    student = init_model(student_file, device='cpu').student
    card = student.generate_model_card(name='me/shapes', license='cc-by-4.0')
    assert card.data.license == 'cc-by-4.0' and card.data.pipeline_tag == 'image-segmentation'
    for words in (
        ', '.join(LABELS),
        'segments photos into 14 classes',
        '| backbone | TimmBackbone resnet10t |',
        '| teacher | miniature-rn |',
        '| iterations | 300 |',
        'No mask of any class was used in training.',
        '| mIoU | 36.12 |',
        'Measured on 9 scenes.',
        'The weights are published under cc-by-4.0.',
        "segment(init_model('me/shapes'), 'photo.jpg')",
    ):
        assert words in card.text, words


def test_the_card_of_other_trainings(student_file):
    description = dict(init_model(student_file, device='cpu').student.description, metrics={})
    training = dict(description['training'], start='mit_b5.pth', unseen=['moon', 'star'])
    text = card_of(dict(description, training=training)).text
    assert 'Training started from mit_b5.pth: NVIDIA Source Code License' in text
    assert 'Masks were used in training, but none of moon, star.' in text
    assert 'None is recorded.' in text and 'Who publishes these weights names' in text


def test_a_student_built_from_parts_says_what_it_lacks(student_file, tmp_path):
    student = init_model(student_file, device='cpu').student
    student.description = None
    for save in (student.save_pretrained, student.push_to_hub):
        with pytest.raises(UserError, match='does not know its config; load it by'):
            save(tmp_path / 'a')
    assert not (tmp_path / 'a').exists()
