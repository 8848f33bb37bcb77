"""Downloads against a loopback server that breaks off, lies, hides files and is slow."""

import copy
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import open_clip
import pytest
import torch
from conftest import ROOT, TINY, load_tool, run_script
from safetensors.torch import load_file, save_file
from test_clip import Archive
from transformers import SegformerConfig, SegformerForImageClassification

from mmseg.clip import load_clip
from mmseg.errors import UserError
from mmseg.models import build_mit
from mmseg.preparation.manifest import problems, read_manifest
from mmseg.utils.download import download

CONTENT = bytes(range(256)) * 4000  # about 1 MB
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """A folder of files in memory; `asked` notes (path, Range) of every GET.

    `cut`: bytes after which an answer breaks off, as often as `cuts` says. `pause`: seconds of
    silence in the middle of the first answer. `ranges`: whether parts can be asked for.
    """

    def __init__(self):
        self.files, self.asked = {}, []
        self.cut, self.cuts, self.pause, self.ranges = None, 0, 0.0, True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                server.answer(self, body=False)

            def do_GET(self):
                server.answer(self, body=True)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f'http://127.0.0.1:{self.http.server_port}'

    def answer(self, request, *, body):
        content = self.files.get(request.path.partition('?')[0])
        if content is None:
            return request.send_error(404)
        span = request.headers.get('Range')
        first = int(span[6:].rstrip('-')) if span and self.ranges else 0
        if body:
            self.asked.append((request.path, span))
        request.send_response(206 if first else 200)
        request.send_header('Content-Length', str(len(content) - first))
        request.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        request.send_header('X-Repo-Commit', '0' * 40)
        request.end_headers()
        if not body:
            return None
        last = len(content)
        if self.cuts:
            self.cuts, last = self.cuts - 1, min(first + self.cut, last)
        request.wfile.write(content[first:last])
        if self.pause:
            pause, self.pause = self.pause, 0.0
            time.sleep(pause)
        return None


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.files['/a.pt'], server.cut, server.cuts = CONTENT, 300_000, 2
    url = server.address + '/a.pt'
    assert download([url], tmp_path / 'a.pt', sha256=SHA) == url
    assert (tmp_path / 'a.pt').read_bytes() == CONTENT
    assert [span for _, span in server.asked] == [None, 'bytes=300000-', 'bytes=600000-']
    assert [path.name for path in tmp_path.iterdir()] == ['a.pt']


def test_the_next_run_goes_on_too(server, tmp_path):
    server.files['/a.pt'], server.cut, server.cuts = CONTENT, 0, 1
    with pytest.raises(UserError, match='ended early'):
        download([server.address + '/a.pt'], tmp_path / 'a.pt', attempts=1)
    server.cut, server.cuts = 500_000, 1
    with pytest.raises(UserError, match='put it at'):
        download([server.address + '/a.pt'], tmp_path / 'a.pt', attempts=0)
    assert not (tmp_path / 'a.pt').exists()
    server.asked.clear()
    download([server.address + '/a.pt'], tmp_path / 'a.pt', sha256=SHA)
    assert server.asked == [('/a.pt', 'bytes=500000-')]


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.files['/a.pt'], server.cut, server.cuts, server.ranges = CONTENT, 300_000, 1, False
    download([server.address + '/a.pt'], tmp_path / 'a.pt', sha256=SHA)
    assert (tmp_path / 'a.pt').read_bytes() == CONTENT


def test_wrong_digest_and_404_pass_to_the_next_source(server, tmp_path):
    server.files.update({'/wrong.pt': b'an older one', '/right.pt': CONTENT})
    urls = [server.address + path for path in ('/none.pt', '/wrong.pt', '/right.pt')]
    assert download(urls, tmp_path / 'a.pt', sha256=SHA) == urls[2]
    with pytest.raises(UserError) as error:
        download(urls[:2], tmp_path / 'b.pt', sha256=SHA)
    assert '404' in str(error.value) and 'sha256' in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['a.pt']


def test_silence_counts_as_a_break(server, tmp_path):
    server.files['/a.pt'], server.cut, server.cuts, server.pause = CONTENT, 1000, 1, 2.0
    started = time.monotonic()
    download([server.address + '/a.pt'], tmp_path / 'a.pt', sha256=SHA, timeout=0.3)
    assert time.monotonic() - started < 1.8


def test_two_processes_do_not_write_one_file(server, tmp_path):
    server.files['/a.pt'] = CONTENT
    with (tmp_path / '.a.pt.lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='being fetched by another process'):
            download([server.address + '/a.pt'], tmp_path / 'a.pt')
    download([server.address + '/a.pt'], tmp_path / 'a.pt', sha256=SHA)
    assert [path.name for path in tmp_path.iterdir()] == ['a.pt']


def test_a_folder_that_cannot_be_written(server, tmp_path):
    server.files['/a.pt'] = CONTENT
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot write'):
        download([server.address + '/a.pt'], tmp_path / 'file' / 'a.pt')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_a_full_disk(server, tmp_path, monkeypatch):
    server.files['/a.pt'] = CONTENT
    mark = hashlib.sha1((server.address + '/a.pt').encode()).hexdigest()[:8]
    (tmp_path / f'.a.pt.{mark}.part').symlink_to('/dev/full')
    with pytest.raises(UserError, match='No space left'):
        download([server.address + '/a.pt'], tmp_path / 'a.pt')
    assert not (tmp_path / 'a.pt').exists()


def test_openai_archive_from_either_source(server, tmp_path, monkeypatch, capsys):
    """The archive from OpenAI's address; once that is gone, open_clip's file from the hub."""
    tool = load_tool('download_weights')
    model = load_clip(TINY['vit'], 'random').model.half()
    torch.jit.trace(Archive(model), torch.zeros(1)).save(str(tmp_path / 'archive.pt'))
    save_file(model.state_dict(), tmp_path / 'hub.safetensors')
    archive = (tmp_path / 'archive.pt').read_bytes()
    path = f'/clip/models/{hashlib.sha256(archive).hexdigest()}/ViT-B-16.pt'
    hub = '/timm/tiny.openai/resolve/main/open_clip_model.safetensors'
    server.files = {path: archive, hub: (tmp_path / 'hub.safetensors').read_bytes()}
    known = dict(url=server.address + path, hf_hub='timm/tiny.openai/', quick_gelu=True)
    monkeypatch.setattr(open_clip, 'get_model_config', lambda _: copy.deepcopy(TINY['vit']))
    monkeypatch.setattr(open_clip, 'get_pretrained_cfg', lambda *_: known)
    monkeypatch.setenv('HF_ENDPOINT', server.address)
    (tmp_path / 'pets.txt').write_text('dog\ncat\n')
    expected = []
    for folder, gone in ((tmp_path / 'a', None), (tmp_path / 'b', path)):
        server.files.pop(gone, None)
        options = ['--models', 'ViT-B-16', '--vocabularies', tmp_path / 'pets.txt', '--students']
        monkeypatch.setattr(sys, 'argv', ['tool', *map(str, options), '--dir', str(folder)])
        tool.main()
        found = load_clip('ViT-B-16-quickgelu', 'openai', pretrain_dir=folder)
        assert any(type(m).__name__ == 'QuickGELU' for m in found.model.modules())
        assert torch.equal(found.model.visual.proj, model.visual.proj.float())
        expected.append(load_file(folder / 'pets--ViT-B-16--openai.safetensors')['text'])
    assert (tmp_path / 'a' / 'ViT-B-16.pt').is_file()
    assert (tmp_path / 'b' / 'ViT-B-16--openai.safetensors').is_file()
    assert torch.equal(*expected) and expected[0].shape == (2, 32)


def test_script_fetches_a_mit_and_verifies_it(server, tmp_path, monkeypatch, capfd):
    config = SegformerConfig(
        depths=[2, 2, 2, 2],
        hidden_sizes=[32, 64, 160, 256],
        num_attention_heads=[1, 2, 5, 8],
        sr_ratios=[8, 4, 2, 1],
    )
    SegformerForImageClassification(config).save_pretrained(tmp_path / 'hub')
    path = '/nvidia/mit-b0/resolve/main/model.safetensors'
    server.files[path] = (tmp_path / 'hub' / 'model.safetensors').read_bytes()
    options = ['--models', '--students', 'mit_b0', '--dir', tmp_path / 'pretrain']
    monkeypatch.setenv('HF_ENDPOINT', server.address)
    monkeypatch.setenv('VIRTUAL_ENV', sys.prefix)
    subprocess.run(['bash', ROOT / 'download_weights.sh', *map(str, options)], check=True)
    assert 'all there' in capfd.readouterr().out
    theirs = load_file(tmp_path / 'hub' / 'model.safetensors')
    ours = build_mit('b0', pretrained=str(tmp_path / 'pretrain' / 'mit_b0.pth'))
    assert torch.equal(ours.layers[0][2].weight, theirs['segformer.encoder.layer_norm.0.weight'])
    entry = read_manifest(tmp_path / 'pretrain')['mit_b0.pth']
    assert entry['source'] == server.address + path and 'NVIDIA' in entry['licence']
    server.asked.clear()
    assert run_script('download_weights', *options) == 0 and server.asked == []
    assert 'there already' in capfd.readouterr().out
    verify = ['--verify', '--dir', tmp_path / 'pretrain']
    assert run_script('download_weights', *verify) == 0
    (tmp_path / 'pretrain' / 'mit_b0.pth').write_bytes(b'other')
    assert run_script('download_weights', *verify) == 1
    told = capfd.readouterr()
    assert 'bytes, not' in told.out and told.err.strip().startswith('error: 1 of 1 files')


@pytest.mark.parametrize('content', [b'<html>sign in first</html>', b''])
def test_what_is_no_weights_file_is_not_kept(content, server, tmp_path, monkeypatch, capsys):
    """A server that answers 200 with a page; the same page, put there by hand."""
    server.files['/timm/resnet10t.c3_in1k/resolve/main/model.safetensors'] = content
    monkeypatch.setenv('HF_ENDPOINT', server.address)
    options = ['--models', '--students', 'resnet10t', '--dir', tmp_path]
    assert run_script('download_weights', *options) == 1
    assert 'it is no weights file: it is a' in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    (tmp_path / 'resnet10t.c3_in1k.safetensors').write_bytes(content)
    assert run_script('download_weights', *options) == 1
    assert 'kept as resnet10t.c3_in1k.safetensors.wrong' in capsys.readouterr().out
    assert [path.suffix for path in tmp_path.iterdir()] == ['.wrong']


@pytest.mark.parametrize(
    'junk', ['', '[]', '3', '{"a": 1}', '{"a": {"size": "x"}}', b'\xff', '{"a": {"sha256": "0"}}']
)
def test_a_junk_manifest_is_one_line(junk, tmp_path):
    (tmp_path / 'MANIFEST.json').write_bytes(junk if isinstance(junk, bytes) else junk.encode())
    with pytest.raises(UserError, match='MANIFEST.json is damaged .*; delete it and fetch again'):
        problems(tmp_path)


def test_script_offline_names_every_source(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    options = ['--models', '--students', 'mit_b0', '--dir', tmp_path]
    assert run_script('download_weights', *options) == 1
    told = capsys.readouterr()
    assert told.out.count('HF_HUB_OFFLINE is set') == 2
    assert told.err == 'error: 1 of 1 could not be fetched; see above\n'
    assert run_script('download_weights', '--models', 'ViT-B-61', '--dir', tmp_path) == 1
    assert "nearest: 'ViT-B-16'" in capsys.readouterr().err


def test_torchvision_of_another_torch_is_one_line(tmp_path):
    (tmp_path / 'torchvision').mkdir()
    fault = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / 'torchvision' / '__init__.py').write_text(fault)
    command = [sys.executable, ROOT / 'tools' / 'check_install.py']
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stdout == ''
    assert ended.stderr.startswith('error: torch ') and ended.stderr.count('\n') == 1
    assert 'nms does not exist' in ended.stderr


def test_proxies_of_the_environment_count(server, tmp_path, monkeypatch):
    server.files['http://nowhere.invalid/a.pt'] = CONTENT
    monkeypatch.setenv('http_proxy', server.address)
    monkeypatch.setattr(urllib.request, '_opener', None)  # made once, from the environment
    download(['http://nowhere.invalid/a.pt'], tmp_path / 'a.pt', sha256=SHA)
    assert (tmp_path / 'a.pt').read_bytes() == CONTENT
    monkeypatch.setattr(urllib.request, '_opener', None)


def test_an_old_python_is_one_line(tmp_path):
    stub = tmp_path / 'python3'
    stub.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    stub.chmod(0o755)
    environment = {'PATH': f'{tmp_path}:/usr/bin:/bin'}
    command = ['bash', ROOT / 'env_install.sh', '--cpu']
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    expected = 'error: Python 3.9.1 is too old; this project needs Python 3.10 or newer\n'
    assert ended.stderr == expected


@pytest.fixture
def install(tmp_path):
    """Run env_install.sh with a `python` that only writes down its arguments, and has no torch."""
    calls = tmp_path / 'calls'
    stub = tmp_path / 'python'
    stub.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\ncase "$2" in *torch*|*urllib*) exit 1;; esac\n'
    )
    stub.chmod(0o755)
    environment = {'PATH': f'{tmp_path}:/usr/bin:/bin', 'VIRTUAL_ENV': str(tmp_path)}

    def run(*options):
        command = ['bash', ROOT / 'env_install.sh', *options]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0
        return ended.stderr, calls.read_text()

    return run


def test_cpu_wheels_where_their_index_cannot_be_reached(install):
    """Without torch and without the index, the install says so in a line and goes on."""
    errors, calls = install('--cpu')
    assert errors.count('\n') == 1 and 'cannot be reached; the usual wheels' in errors
    assert '--index-url' not in calls and '--editable .[tests]' in calls


def test_locked_versions(install):
    errors, calls = install('--locked')
    assert not errors and '--constraint requirements.lock --editable .[tests]' in calls
    locked = (ROOT / 'requirements.lock').read_text()
    needed = re.search(
        r'^dependencies = \[(.*?)^\]', (ROOT / 'pyproject.toml').read_text(), re.M | re.S
    )
    for name in re.findall(r'"([\w-]+)', needed[1]):
        name = name.replace('_', '-')
        assert re.search(rf'^{name}==', locked, re.M), f'{name} is not in requirements.lock'
    assert '://' not in locked and 'file:' not in locked
