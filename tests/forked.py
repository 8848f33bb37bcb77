"""Scripts in processes of their own, forked from one that has imported PyTorch and the like."""

import atexit
import gc
import multiprocessing
import os
import runpy
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
