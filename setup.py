"""A shim for tools that look for setup.py; all settings are in pyproject.toml."""

from setuptools import setup

setup()
