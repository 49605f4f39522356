"""Processes that start warm: forked from a Python that has PyTorch and `bench` loaded, which costs seconds each time.

What is forked is a process like any other, with a pid, signals, files, folder and environment of its own. What it does
not show is what a start imports, and from where: for that a test starts one cold. It needs Linux.

Run as a program, this file is the server (`warm.py SOCKET`) that forks them, or the `bench` of a shell that has it do
so (`warm.py SOCKET bench ARGUMENTS`, see `bench_for_shells`).
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36
LOADED = (
    *("sklearn.datasets", "torch._dynamo", "torchattacks"),  # an optimizer's first step imports the second
    *("bench.export", "bench.cost.measure", "bench.report.site", "bench.sweep.run_here", "bench.sweep.done"),
    *("bench.cli.demo", "bench.cli.evaluate", "bench.cli.run", "bench.cli.sweep", "bench.cli.teacher"),
)
"""What commands import, so that none of those processes has to."""
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def ask(server: str, order: dict[str, Any], streams: Sequence[int]) -> tuple[socket.socket, int]:
    """Have the server fork; a connection to it, and the process's pid."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(server)
    socket.send_fds(connection, [json.dumps(order).encode()], streams)
    return connection, int(connection.recv(32))


class Warm(subprocess.Popen[str]):
    """A Popen of `bench ARGUMENTS`, or of `python ARGUMENTS` where they begin with "-c" or a script, that starts warm.

    The process is a child of the one that asks, as any Popen's: it is the one that waits for it.
    """

    def __init__(self, server: str, *arguments: object, **options: Any) -> None:
        self._server = server
        super().__init__([*map(str, arguments)], text=True, **options)

    def _execute_child(self, args: Any, *options: Any) -> None:  # type: ignore[override]
        asked = signature(subprocess.Popen._execute_child).bind(self, args, *options).arguments  # type: ignore[attr-defined]
        pipes = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        streams = [number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        environment = os.environ if asked["env"] is None else asked["env"]
        order = {"argv": args, "cwd": str(asked["cwd"] or Path.cwd()), "environment": dict(environment)}
        order["session"] = bool(asked["start_new_session"])
        own = ctypes.CDLL(None, use_errno=True)
        own.prctl(PR_SET_CHILD_SUBREAPER, 1)  # the orphan that the server makes comes to us
        connection, self.pid = ask(self._server, order, streams)
        connection.recv(32)
        own.prctl(PR_SET_CHILD_SUBREAPER, 0)
        connection.close()
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


@contextmanager
def serving() -> Iterator[str]:
    """A server's socket; the server ends with the block, or with us."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BENCH_", "PYTHON"))}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with TemporaryDirectory(prefix="warm") as folder:  # a socket's path has to be short
        address = f"{folder}/server"
        with subprocess.Popen([sys.executable, __file__, address], env=environment, text=True, **pipes) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield address
            server.stdin.close()


def bench_for_shells(folder: Path, server: str) -> None:
    """Write a program `bench` that starts warm, for a folder on a shell's PATH."""
    (folder / "bench").write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} {server} bench "$@"\n')
    (folder / "bench").chmod(0o755)


def leave(code: int) -> NoReturn:
    """End with an exit code, or below zero by that signal."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def stand_in(server: str, argv: list[str]) -> None:
    """Be a process that starts warm, for the shell that waits for this one: gets its signals, ends as it does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    order = {"argv": argv, "cwd": os.getcwd(), "environment": dict(os.environ), "waits": True}
    connection, process = ask(server, order, (0, 1, 2))
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(process, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    leave(os.waitstatus_to_exitcode(int(connection.recv(32))))


def serve(address: str) -> dict[str, Any]:
    """Fork a process for every order; comes back in those processes, with their orders."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while 0 not in select.select([0, listener], [], [])[0]:
        connection, _ = listener.accept()
        text, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
        order: dict[str, Any] = json.loads(text)
        between = os.fork()
        if between == 0:
            parent = os.getpid()
            process = os.fork()
            if process == 0:
                while os.getppid() == parent and not order.get("waits"):
                    time.sleep(0.001)  # it begins as whoever asked for it is its parent
                return order | {"streams": streams}
            connection.send(str(process).encode())
            if order.get("waits"):
                connection.send(str(os.waitpid(process, 0)[1]).encode())
            os._exit(0)
        if not order.get("waits"):
            os.waitpid(between, 0)
            connection.send(b"yours")  # whoever asked is its parent now
        for descriptor in (*streams, connection.detach()):
            os.close(descriptor)
    os._exit(0)


def become(order: dict[str, Any]) -> None:
    """Make of the forked process the one that was asked for, and do what it is for."""
    import torch

    for number, stream in enumerate(order["streams"]):
        os.dup2(stream, number)
        os.close(stream)
    if order.get("session"):
        os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))

    def lines(number: int) -> int:
        return 1 if number == 2 or os.isatty(number) else -1

    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = (
        open(number, "w", lines(number), stream.encoding, stream.errors, closefd=False)  # noqa: SIM115
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    )
    sys.path[:0] = [entry for entry in os.environ.get("PYTHONPATH", "").split(":") if entry]
    invalidate_caches()
    what, *rest = order["argv"]
    if what == "bench":
        from bench.cli.main import main

        sys.argv = order["argv"]
        main()
    elif what == "-c":
        sys.argv = [what, *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = order["argv"]
        sys.path.insert(0, str(Path(what).parent))
        runpy.run_path(what, run_name="__main__")


def end(doing: Callable[[], None]) -> NoReturn:
    """Do what the process is for and end as an interpreter does, but for putting away every object it has loaded."""
    code = 0
    try:
        doing()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    leave(code)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        stand_in(sys.argv[1], sys.argv[2:])
    del sys.path[0]  # the tests' own folder
    for module in LOADED:
        import_module(module)
    order = serve(sys.argv[1])
    end(lambda: become(order))
