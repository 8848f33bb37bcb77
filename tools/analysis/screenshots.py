"""Photograph the web page in a Chromium: docs/images/app.png, and app_phone.png on a phone.

python tools/analysis/screenshots.py [--out DIR]

It starts and ends the page. It needs playwright and a Chromium (Debian: apt-get install chromium).
docs/images shows the miniature, which the page has where no CLIP was fetched.
"""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmseg.apis.command import documented_parser, run_command
from mmseg.errors import UserError
from mmseg.utils import atomic_path, output_dir

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / 'demo' / 'scenes' / 'heart.png'
WORDS = 'ring, grass, heart, sand, sky, brick'
WINDOWS = {'app.png': (1400, 900), 'app_phone.png': (390, 844)}  # width, height


def main() -> None:
    parser = documented_parser(__doc__)
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'images', help='a folder')
    out = parser.parse_args().out
    browser = find_chromium()
    with running_page() as address:
        for path in photograph(address, browser, PHOTO, WORDS, out):
            print(f'written to {path}')


def find_chromium() -> str:
    """Return the path of a Chromium, in which playwright is to be installed too."""
    try:
        import playwright  # noqa: F401
    except ImportError as error:
        raise UserError('needs playwright: pip install playwright') from error
    path = shutil.which('chromium') or shutil.which('chromium-browser')
    if path is None:
        raise UserError("needs a Chromium, such as Debian's: apt-get install chromium")
    return path


@contextmanager
def running_page() -> Iterator[str]:
    """Start demo/app.py on a free port, yield its address, and end it."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / 'demo' / 'app.py'), '--port', str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        try:
            if not any(line.startswith('open http') for line in page.stdout):
                raise UserError('the page ended by itself')
            yield f'http://127.0.0.1:{port}'
        finally:
            page.terminate()


def photograph(address: str, browser: str, photo: Path, classes: str, out: Path) -> Iterator[Path]:
    """Type the words, upload the photo, point at the last picture; yield the PNGs."""
    from playwright.sync_api import sync_playwright

    output_dir(out)
    with sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=browser, args=['--no-sandbox'])
        for name, (width, height) in WINDOWS.items():
            page = chromium.new_page(viewport=dict(width=width, height=height))
            page.set_default_timeout(300_000)
            page.goto(address)
            page.get_by_label('Classes').fill(classes)
            page.locator('input[type=file]').first.set_input_files(photo)
            page.locator('.panels canvas').last.hover()
            page.locator('.legend').scroll_into_view_if_needed()
            with atomic_path(out / name) as temporary:
                page.screenshot(path=temporary)
            yield out / name
            page.close()


if __name__ == '__main__':
    run_command(main)
