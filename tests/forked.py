"""Processes of tests: scripts, forked from one that has imported PyTorch; what shells start."""

import atexit
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys

import mmengine.config.config
from conftest import ROOT, group_environment, unformatted

SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(
    ['pytest', 'mmseg.apis.train', 'mmseg.apis.test', 'mmseg.labelling.command']
)


def start_script(script, *arguments, out=os.devnull, **variables):
    """Start a script -> its process: pid, exitcode, kill() and so on

    Args:
        script: its path, or a name in tools/.
        arguments: of its command line.
        out: a file for its standard output and errors.
        variables: more of the environment.
    """
    command = [str(word) for word in (ROOT / 'tools' / script, *arguments)]
    process = SERVER.Process(target=_run, args=(command, str(out), dict(os.environ) | variables))
    process.start()
    return process


def _run(command, out, environment):
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    sys.stdout.reconfigure(line_buffering=True)
    mmengine.config.config.FormatCode = unformatted
    gc.freeze()
    sys.argv, sys.path[:0] = command, [os.path.dirname(command[0])]
    try:
        runpy.run_path(command[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()


def run_group(script, *arguments, out, processes=2):
    """Run processes on the CPU as torchrun starts them -> their exit codes, and what they print."""
    size = dict.fromkeys(('WORLD_SIZE', 'LOCAL_WORLD_SIZE'), str(processes))
    environment = group_environment(MASTER_ADDR='127.0.0.1', OMP_NUM_THREADS='1', **size)
    arguments = [*arguments, '--device', 'cpu', '--launcher', 'pytorch']
    started = [
        start_script(script, *arguments, out=out, RANK=rank, LOCAL_RANK=rank, **environment)
        for rank in map(str, range(processes))
    ]
    for process in started:
        process.join(timeout=120)
        process.kill()
    return [process.exitcode for process in started], out.read_text()


NOTE = 'cd "$(dirname "$0")"; printf "%s\\n" "$@" > command; env -0 > environment'


def python_of(folder, script, *arguments, **programs):
    """Run a shell script of tools/ that starts Python -> the arguments and environment of Python

    Args:
        folder: gets a `python` that only notes them.
        programs: texts in bash of other programs that the script finds, by their names.
    """
    folder.mkdir()
    for name, text in dict(programs, python=NOTE).items():
        (folder / name).write_text(f'#!/usr/bin/env bash\n{text}\n')
        (folder / name).chmod(0o755)
    environment = group_environment()
    environment['PATH'] = f'{folder}:{environment["PATH"]}'
    command = ['bash', f'tools/{script}', *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    lines = (folder / 'environment').read_text().split('\0')
    variables = dict(line.split('=', 1) for line in lines if '=' in line)
    return (folder / 'command').read_text().splitlines(), variables
