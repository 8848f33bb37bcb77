"""The web page: what it sends, what it refuses, and itself in a headless Chromium."""

import base64
import importlib.util
import io
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import torch
from conftest import ROOT, load_tool
from PIL import Image

from mmseg.apis import init_model, segment
from mmseg.apis.guard import BODIES, REQUESTS, Guard
from mmseg.apis.result import Segmentation
from mmseg.datasets.miniature import MiniatureDataset
from mmseg.datasets.reading import read_photo
from mmseg.errors import UserError
from mmseg.vocabularies import distinct_palette

CONFIG = ROOT / 'configs' / 'miniature' / 'maskclip_rn.py'


@pytest.fixture(scope='module')
def app():
    spec = importlib.util.spec_from_file_location('app', ROOT / 'demo' / 'app.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def model():
    return init_model(CONFIG, device='cpu')


def scene():
    dataset = MiniatureDataset(scenes=1, world=1)
    return Image.fromarray(dataset.draw('miniature/1/00000.png').image)


def opened(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition('base64,')[2])))


def test_the_browser_gets_labels_and_probabilities_of_each_pixel(app):
    labels = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
    sure = np.array([[1.0, 0.5, 0.2], [0.8, 0.6, 0.4]], np.float32)
    photo = np.zeros((2, 3, 3), np.uint8)
    palette = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    result = Segmentation(photo, labels, torch.zeros(3, 1, 1), sure, ('a', 'b', 'c'), palette)
    panel = app.panel_of('MaskCLIP', result)
    red, green, blue = np.moveaxis(np.asarray(opened(panel['map'])).astype(int), 2, 0)
    assert (red + 256 * green).tolist() == [[0, 1, 65535], [2, 2, 0]]
    assert np.abs(blue / 255 - sure).max() < 0.5 / 255 + 1e-6
    assert np.array_equal(np.asarray(opened(panel['labels'])), labels)
    assert panel['summary']['c']['share'] == pytest.approx(2 / 6, abs=1e-4)


def test_classes_beyond_255_survive(app):
    labels = np.array([[0, 299, 65535]], np.uint16)
    names, palette = tuple(map(str, range(300))), ((1, 2, 3),) * 300
    sure, photo = np.ones((1, 3), np.float32), np.zeros((1, 3, 3), np.uint8)
    panel = app.panel_of('m', Segmentation(photo, labels, None, sure, names, palette))
    red, green, _ = np.moveaxis(np.asarray(opened(panel['map'])).astype(int), 2, 0)
    assert (red + 256 * green).tolist() == [[0, 299, 65535]]


def test_side_by_side(app, model):
    photo, words = scene(), 'sky, grass, moon|star'
    answer = app.compare(model, None, photo, words, 'water', app.MODELS[:2], 0.1, 0.0)
    plain, weighed = answer['panels']
    assert plain['names'] == ['sky', 'grass', 'moon', 'background']
    expected = segment(model, photo, words, background='water', tau=0.1)
    assert np.array_equal(np.asarray(opened(weighed['labels'])), expected.labels)
    assert weighed['map'] != plain['map']
    with pytest.raises(UserError, match='choose at least one'):
        app.compare(model, None, photo, words, '', [], 1.0, 0.0)


def test_a_student_alone(app, student_file):
    pytest.importorskip('gradio')
    base, student = app.load_models(app.parse_arguments(['--model', str(student_file)]))
    answer = app.compare(base, student, scene(), '', '', ['student'], 1.0, 0.0)
    assert base is None and len(answer['panels'][0]['names']) == 14
    page = app.build_page(base, student, 10**6, miniature=False)
    blocks = {getattr(block, 'label', None): block for block in page.blocks.values()}
    assert blocks['Side by side'].value == ['student']
    assert not blocks['Classes'].visible and blocks['Threshold'].visible


def test_a_name_has_one_colour_in_all_pictures(app):
    labels, red, green, blue = np.zeros((1, 1), np.uint8), (128, 0, 0), (0, 128, 0), (0, 0, 128)

    def result(names, *palette):
        return Segmentation(None, labels, None, None, names, palette)

    results = dict(a=result(('sky', 'dog', 'cat'), red, green, blue), b=result(('cat',), red))
    shared = app.in_shared_colours(results)
    assert list(shared) == ['a', 'b'] and shared['b'].palette == (red,)
    sky, dog, cat = shared['a'].palette
    assert cat == red and (sky, dog) == distinct_palette(2, [red])  # far from red
    assert app.in_shared_colours(dict(a=result(('sky',), green)))['a'].palette == (green,)
    grey = (128, 128, 128)
    shared = app.in_shared_colours(dict(a=result(('background',), grey), b=result(('cat',), red)))
    assert shared['a'].palette == (grey,)


def test_large_photos_travel_small(app, model):
    answer = app.compare(model, None, scene().resize((2000, 500)), 'sky', '', ['MaskCLIP'], 1, 0)
    assert (answer['width'], answer['height']) == (1600, 400)
    assert opened(answer['panels'][0]['map']).size == (1600, 400)
    assert opened(answer['panels'][0]['labels']).size == (2000, 500)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    Image.new('1', (4000, 3000)).save(tmp_path / 'large.png')
    assert read_photo(tmp_path / 'large.png', max_pixels=12_000_000).size == (4000, 3000)
    with pytest.raises(UserError, match='is 4000x3000; at most 10 megapixels'):
        read_photo(tmp_path / 'large.png', max_pixels=10_000_000)


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['--student', str(CONFIG)], '--student needs its --student-checkpoint'),
        (['--config', str(CONFIG.with_name('maskclip_text_rn.py'))], 'without a class weight'),
        (['--config', str(CONFIG), '--host', '192.0.2.1'], 'cannot listen on 192.0.2.1'),
    ],
)
def test_bad_arguments(app, arguments, words):
    pytest.importorskip('gradio')
    with pytest.raises(UserError, match=words):
        app.main(arguments)


def test_a_taken_port(app):
    pytest.importorskip('gradio')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f'cannot listen on 127.0.0.1, port {port}'):
            app.main(['--config', str(CONFIG), '--port', str(port)])


def test_without_gradio_one_line_says_what_to_install(app, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(UserError, match=r"pip install 'maskclip-plus\[demo\]'"):
        app.main([])


@pytest.fixture(scope='module')
def client(app, model):
    """Requests to the page as it is served, without a socket: (method, path, headers) -> answer."""
    pytest.importorskip('gradio')
    from starlette.testclient import TestClient

    page = app.build_page(model, None, 10**6, miniature=True)
    guard = app.application(page, app.parse_arguments(['--max-megabytes', '1']))
    with TestClient(guard, base_url='http://127.0.0.1:7860') as client:
        yield client


UPLOAD = '/gradio_api/upload'


@pytest.mark.parametrize(
    'headers, status',
    [
        ({}, 200),
        ({'host': 'localhost:7860'}, 200),
        ({'host': '[::1]:7860'}, 200),
        ({'host': 'LOCALHOST'}, 200),
        ({'origin': 'http://127.0.0.1:7860'}, 200),
        ({'host': 'evil.example:7860'}, 403),
        ({'host': 'evil.example', 'origin': 'http://evil.example'}, 403),
        ({'host': '127.0.0.1.evil.example:7860'}, 403),
        ({'host': '192.0.2.1:7860'}, 403),
        ({'host': ''}, 403),
        ({'origin': 'http://evil.example'}, 403),
        ({'origin': 'http://localhost:7860'}, 403),
        ({'origin': 'http://127.0.0.1:8000'}, 403),
        ({'origin': 'null'}, 403),
    ],
)
def test_the_page_answers_its_own_names_alone(client, headers, status):
    assert client.get('/', headers=headers).status_code == status
    photo = dict(files=('a.png', b'x', 'image/png'))
    assert client.post(UPLOAD, files=photo, headers=headers).status_code == status
    preflight = {'access-control-request-method': 'POST', **headers}
    assert (client.options(UPLOAD, headers=preflight).status_code == 403) == (status == 403)


def test_a_page_for_the_network_answers_addresses_and_its_name():
    guard = Guard(None, ['localhost', 'Host'], any_address=True, max_bytes=9)
    served = {name: guard.refusal(scope_of(name)) is None for name in ('192.0.2.1', '[fe80::1]:1')}
    served |= {name: guard.refusal(scope_of(name)) is None for name in ('host:7', 'a.example')}
    assert list(served.values()) == [True, True, True, False]
    assert guard.refusal(dict(type='http', method='GET', headers=[]))[0] == 403


def scope_of(host, size=None, client='a', method='POST'):
    """An ASGI scope; a POST where a size is passed."""
    headers = [(b'host', host.encode())]
    headers += [] if size is None else [(b'content-length', str(size).encode())]
    method = 'GET' if size is None else method
    return dict(type='http', method=method, headers=headers, client=(client, 1))


def test_bodies_have_a_size_and_clients_a_share(client):
    assert client.post(UPLOAD, content=b'x' * 3 * 2**20).status_code == 413
    assert client.post(UPLOAD, content=iter([b'x'])).status_code == 411  # in chunks
    guard = Guard(None, ['h'], max_bytes=100)
    chunked = scope_of('h', 3)
    chunked['headers'].append((b'transfer-encoding', b'chunked'))  # then the length does not count
    assert guard.refusal(chunked)[0] == 411
    statuses = [guard.refusal(scope_of('h', 100)) for _ in range(BODIES + 1)]
    assert statuses[:-1] == [None] * BODIES and statuses[-1][0] == 429
    assert guard.refusal(scope_of('h', 100, client='b')) is None
    guard.window -= 1  # later
    assert guard.refusal(scope_of('h', 100)) is None
    statuses = [guard.refusal(scope_of('h', 0, client='c')) for _ in range(REQUESTS + 1)]
    assert statuses[-2] is None and statuses[-1][0] == 429


def test_an_upload_is_opened_as_a_photo_alone(app, model, tmp_path, monkeypatch):
    gradio = pytest.importorskip('gradio')
    started = []
    monkeypatch.setattr('PIL.EpsImagePlugin.Ghostscript', lambda *_, **__: started.append('gs'))
    scene().save(tmp_path / 'a.jpg', 'EPS')
    page = app.build_page(model, None, 10**6, miniature=True)
    (photo,) = (block for block in page.blocks.values() if isinstance(block, gradio.Image))
    path = photo.preprocess(gradio.data_classes.ImageData(path=str(tmp_path / 'a.jpg')))
    problem = problem_of(app, model, path)
    assert problem.startswith('Not segmented: the image a.jpg cannot be read: no image of JPEG')
    assert started == [] and photo.preprocess(None) is None


def problem_of(app, model, path, words='sky'):
    return app.answer(model, None, 10**6, path, words, '', ['MaskCLIP'], 1.0, 0.0)['problem']


def test_a_broken_photo_is_named_in_plain_words(app, model, tmp_path):
    scene().save(tmp_path / 'a.jpg')
    whole = (tmp_path / 'a.jpg').read_bytes()
    for content, words in {
        b'': 'the file is empty',
        b'no photo': 'no image of JPEG, PNG',
        whole[: len(whole) // 2]: 'it is damaged or cut off (image file is truncated',
        whole[:30]: 'it is damaged or cut off (Truncated File Read)',
    }.items():
        (tmp_path / 'a.jpg').write_bytes(content)
        problem = problem_of(app, model, str(tmp_path / 'a.jpg'))
        assert problem.startswith(f'Not segmented: the image a.jpg cannot be read: {words}')
        assert problem.endswith('. Choose another photo.')
    Image.new('1', (1, 20_000_000)).save(tmp_path / 'a.png')
    problem = problem_of(app, model, str(tmp_path / 'a.png'))
    assert problem.startswith('Not segmented: the image a.png is 1x20000000; at most 1 megapixels')


def test_missing_words_are_said_without_folders_of_this_machine(app, model, tmp_path):
    scene().save(tmp_path / 'a.png')
    for words, problem in {
        '': 'no class is named; give one or more words',
        'sky,,moon': "an empty class name in 'sky', '', 'moon'; is a comma too many?",
        'dog': 'miniature-rn.safetensors never learned the words dog;',
    }.items():
        found = problem_of(app, model, str(tmp_path / 'a.png'), words)
        assert found.startswith(f'Not segmented: {problem}')


@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """A running page -> (its address, the folder in which it may write)."""
    pytest.importorskip('gradio')
    folder, port = tmp_path_factory.mktemp('page'), 17860 + os.getpid() % 1000
    command = [sys.executable, ROOT / 'demo' / 'app.py', '--config', CONFIG, '--device', 'cpu']
    command += ['--port', port, '--max-megabytes', 1, '--max-megapixels', 2]
    environment = dict(os.environ, TMPDIR=str(folder))
    process = subprocess.Popen(list(map(str, command)), env=environment, cwd=folder)
    address = f'http://127.0.0.1:{port}'
    for _ in range(480):  # seconds on a quiet machine
        try:
            urllib.request.urlopen(address, timeout=5)
            break
        except OSError:
            assert process.poll() is None, 'the page ended by itself'
            time.sleep(0.5)
    yield address, folder
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    assert not list(folder.glob('maskclip_page_*')), 'the temporary folder outlived the page'
    assert not list(folder.iterdir()), 'something was written outside the temporary folder'


@pytest.fixture(scope='module')
def chromium():
    """Path of a Chromium; the tests that need one are skipped without it."""
    try:
        return load_tool('analysis/screenshots').find_chromium()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def page(served, chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        options = dict(executable_path=chromium, args=['--no-sandbox'])
        browser = player.chromium.launch(**options)
        page = browser.new_page(viewport=dict(width=1300, height=1000))
        page.set_default_timeout(60_000)
        page.faults, page.foreign = [], []
        page.on('pageerror', lambda error: page.faults.append(str(error)))
        page.on('request', lambda request: page.foreign.append(request.url))
        page.goto(served[0])
        yield page
        assert page.faults == []
        local = (served[0], 'data:', 'blob:')
        assert [url for url in page.foreign if not url.startswith(local)] == []
        browser.close()


def test_upload_words_overlay_legend(page, model, tmp_path):
    photo = scene().resize((256, 192))
    photo.save(tmp_path / 'photo.png')
    page.get_by_label('classes').fill('sky, <b>, moon'.replace('<b>', 'grass'))
    page.locator('input[type=file]').first.set_input_files(tmp_path / 'photo.png')
    page.wait_for_selector('.panels canvas')
    legend = page.locator('.legend').inner_text()
    expected = segment(model, photo, 'sky, grass, moon')
    for name, found in expected.summary().items():
        assert name in legend and f'{100 * found["share"]:.1f} %' in legend
    assert page.locator('figcaption').all_inner_texts() == ['MaskCLIP', '+ class weight']
    canvas = page.locator('.panels canvas').first
    box = canvas.bounding_box()
    canvas.hover(position=dict(x=box['width'] * 20.5 / 256, y=box['height'] * 30.5 / 192))
    reading = page.locator('.reading').first.inner_text()
    name = expected.names[expected.labels[30, 20]]
    assert reading == f'{name} · {expected.probability[30, 20]:.2f}'
    with page.expect_download() as download:
        page.locator('.panels a').first.click()
    assert np.array_equal(np.asarray(Image.open(download.value.path())), expected.labels)


def test_toggle_and_other_words_and_tau(page, tmp_path):
    scene().save(tmp_path / 'photo.png')
    page.locator('input[type=file]').first.set_input_files(tmp_path / 'photo.png')
    page.wait_for_selector('.panels canvas')
    picture = "document.querySelector('.panels canvas').toDataURL()"
    both, first = page.evaluate(picture), page.locator('.legend input').first
    first.uncheck()
    page.mouse.move(0, 0)
    assert page.evaluate(picture) != both
    first.check()
    page.mouse.move(0, 0)
    assert page.evaluate(picture) == both
    page.get_by_label('classes').fill('sky, moon, star')
    page.get_by_role('button', name='segment').click()
    page.wait_for_function("document.querySelectorAll('.legend tr').length == 4")
    weighed = "document.querySelectorAll('.legend tr')[1].innerText"
    before = page.evaluate(weighed)
    page.get_by_label('number input for tau').fill('0.05')
    page.get_by_label('number input for tau').press('Enter')
    page.wait_for_function(f'{weighed} != {before!r}')


OVERLAPS = """() => {  // pairs of texts, or of a text and a field, that touch
  const texts = [], fields = [], pairs = [];
  const visible = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const add = (list, name, boxes) => {
    for (const box of boxes) if (box.width > 1 && box.height > 1) list.push([name, box]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, range = document.createRange();
    const clipped = node.parentElement.getBoundingClientRect().width <= 1; // for screen readers
    if (!node.data.trim() || clipped || !visible(node.parentElement)) continue;
    range.selectNodeContents(node);
    add(texts, node.data.trim(), range.getClientRects());
  }
  for (const field of document.querySelectorAll('input:not([type=range]), textarea, canvas'))
    if (visible(field)) add(fields, field.outerHTML, [field.getBoundingClientRect()]);
  const compare = ([a, p], [b, q], gap) => {
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (wide > -gap && high > 3) pairs.push(`${a} / ${b}`);
  };
  texts.forEach((text, i) => {
    for (const other of texts.slice(i + 1)) compare(text, other, -1);
    for (const field of fields) compare(text, field, 2);
  });
  return pairs;
}"""


@pytest.mark.parametrize('width, height', [(1400, 900), (1000, 1000), (1000, 700), (390, 844)])
def test_the_page_fits_its_window(page, width, height, tmp_path):
    """Words and button are above the fold, and nothing lies on anything else."""
    page.set_viewport_size(dict(width=width, height=height))
    button = page.get_by_role('button', name='Segment').bounding_box()
    assert button['y'] + button['height'] < height
    scene().save(tmp_path / 'photo.png')
    page.locator('input[type=file]').first.set_input_files(tmp_path / 'photo.png')
    page.wait_for_selector('.panels canvas')
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    boxes = [canvas.bounding_box() for canvas in page.locator('.panels canvas').all()]
    assert (boxes[0]['y'] == boxes[1]['y']) == (width > 700)  # side by side
    if width < 700:  # the pictures are brought into view, and lie above the settings
        assert boxes[0]['y'] < height / 2
        assert boxes[1]['y'] < page.get_by_label('Background').bounding_box()['y']


def test_screenshots(served, chromium, tmp_path):
    scene().save(tmp_path / 'photo.png')
    tool = load_tool('analysis/screenshots')
    shots = tool.photograph(served[0], chromium, tmp_path / 'photo.png', 'sky, moon', tmp_path)
    sizes = [Image.open(path).size for path in shots]
    assert sizes == [(1400, 900), (390, 844)]


def test_mistakes_are_said_in_words(page, tmp_path):
    page.get_by_role('button', name='draw a scene').click()
    page.wait_for_selector('.panels canvas')
    page.get_by_label('classes').fill('dog, sky')
    page.get_by_role('button', name='segment').click()
    page.get_by_text('never learned the words dog').first.wait_for()
    Image.new('1', (2000, 1500)).save(tmp_path / 'pixels.png')
    page.reload()
    page.locator('input[type=file]').first.set_input_files(tmp_path / 'pixels.png')
    page.get_by_text('pixels.png is 2000x1500; at most 2 megapixels').first.wait_for()
    (tmp_path / 'text.jpg').write_text('no photo')
    page.reload()
    page.locator('input[type=file]').first.set_input_files(tmp_path / 'text.jpg')
    page.get_by_role('alert').get_by_text('the image text.jpg cannot be read').wait_for()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / 'bytes.png')
    page.reload()
    page.locator('input[type=file]').first.set_input_files(tmp_path / 'bytes.png')
    page.get_by_text('maximum').first.wait_for()
