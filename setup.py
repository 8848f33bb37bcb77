"""Put configs, tools and demo below mmseg/.mim in the wheel, as OpenMMLab's packages have them.

All other settings are in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RESOURCES = 'mmseg/.mim'  # `mmseg.utils.RESOURCES` looks there
PATTERNS = (
    *('model-index.yml', 'configs/**/*.py', 'tools/**/*.py', 'tools/**/*.sh'),
    *('demo/*.py', 'demo/viewer.*', 'demo/scenes/*.png'),
)
CHECKOUT_ONLY = {'tools/check_install.py'}


class BuildWithResources(build_py):
    """The package, and beside its modules what runs them; an sdist has the same files."""

    def resources(self) -> list[str]:
        """List the files, relative to the checkout."""
        root = Path(__file__).parent
        paths = {str(p.relative_to(root)) for pattern in PATTERNS for p in root.glob(pattern)}
        return sorted(paths - CHECKOUT_ONLY)

    def run(self) -> None:
        super().run()
        target = Path(self.build_lib, RESOURCES)
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        for name in self.resources() if not self.editable_mode else ():
            self.mkpath(str((target / name).parent))
            self.copy_file(name, str(target / name))

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self.resources()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        files = [str(Path(self.build_lib, RESOURCES, name)) for name in self.resources()]
        return [*super().get_outputs(include_bytecode), *files]


setup(cmdclass={'build_py': BuildWithResources})
