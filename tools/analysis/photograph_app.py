"""A picture of the running web page, as a visitor sees it: docs/images/app.png.

python demo/app.py [...]                       # in another terminal
python tools/analysis/photograph_app.py PHOTO --classes "sky, grass" --out docs/images/app.png

It drives a headless Chromium with playwright (`pip install playwright`).
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import _checkout  # noqa: F401  first: it decides which mmseg is found

from mmseg.apis.command import run_command
from mmseg.errors import UserError


def photograph(address, photo, classes, out):
    """Uploads a photo, types the words, points at the picture's middle -> a PNG of the page"""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    if chromium is None:
        raise UserError('needs a Chromium, such as: apt-get install chromium')
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        page = browser.new_page(viewport=dict(width=1400, height=900))
        page.goto(address)
        page.get_by_label('classes').fill(classes)
        page.locator('input[type=file]').first.set_input_files(photo)
        page.locator('.panels canvas').first.hover(timeout=60_000)
        page.screenshot(path=out)
        browser.close()


def main(argv=None):
    parser = argparse.ArgumentParser(description='A picture of the running web page.')
    parser.add_argument('photo')
    parser.add_argument('--classes', required=True)
    parser.add_argument('--address', default='http://127.0.0.1:7860')
    parser.add_argument('--out', default='docs/images/app.png')
    args = parser.parse_args(argv)
    photograph(args.address, args.photo, args.classes, args.out)


if __name__ == '__main__':
    run_command(main)
