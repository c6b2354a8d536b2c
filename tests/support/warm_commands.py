# SPDX-License-Identifier: Apache-2.0
"""Runs the training's commands of a shell script in forks of one process that has loaded PyTorch.

A command takes up to nine seconds of a core to import it. The script, its variables, the command lines, the output and
the exit status stay as they are; only `peft-dml-train` and `python -m` are shell functions that ask this process.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

FUNCTIONS = 'peft-dml-train() {{ {ask} peft_dml_train.cli "$@"; }}\npython() {{ shift; {ask} "$@"; }}\n'
MODULES = ("peft_dml_train.loop.stages", "peft_dml_train.evaluation.subsets", "peft_dml_train.export.bundle")
LISTENS = "listens"


@contextmanager
def warm_commands(folder: Path):
    """Yield the variables with which a script of bash uses a process that lives as long as the context."""
    address, functions = folder / "socket", folder / "functions.sh"
    functions.write_text(FUNCTIONS.format(ask=f"{sys.executable} -I -S {__file__} ask {address}"))
    command = [sys.executable, "-m", __name__, "serve", str(address)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == LISTENS
            yield {"BASH_ENV": str(functions)}
        finally:
            process.terminate()


def serve(address: str) -> None:
    """Run one command after the other, each in a fork with the caller's files, folder and variables."""
    for module in MODULES:
        import_module(module)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print(LISTENS, flush=True)
        while True:
            caller, _ = server.accept()
            with caller:
                text, files, _, _ = socket.recv_fds(caller, 1 << 20, 3)
                child = os.fork()
                if not child:
                    _run(files, **json.loads(text))
                for file in files:
                    os.close(file)
                caller.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255]))


def _run(files: list[int], words: list[str], variables: dict[str, str], folder: str) -> None:
    """Be the command."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - a fork must not return into the server
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ask(address: str, *words: str) -> int:
    """Have a command run with this process's files, folder and variables; return its exit status."""
    about = {"words": words, "variables": dict(os.environ), "folder": str(Path.cwd())}
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [json.dumps(about).encode()], [0, 1, 2])
        return server.recv(1)[0]


if __name__ == "__main__":
    begin, *given = sys.argv[1:]
    sys.exit(serve(*given) if begin == "serve" else ask(*given))
