"""Owns an engine's whole tree of processes, and ends all of it when the first of them ends.

    python -I -S keeper.py stop_seconds=10 [memory_mb=9000] [uid=997 gid=997 groups=997,44] [temporary=FOLDER]
        -- COMMAND...

The launcher becomes this program, which imports next to nothing: two small processes stay.

    supervisord ── outer keeper ── inner keeper ── the engine's first process ── whatever it starts

Both are "child subreapers": the kernel hands them every orphan below, whatever that did to its environment, its name or
its session. So nothing is guessed when one process is killed with -9:

- the engine's first: the inner keeper ends what is left;
- the inner keeper: the kernel kills the engine's first process with it, and the outer keeper ends what is left;
- the outer keeper: the kernel tells the inner one, which ends everything at once.

They live in different sessions, so that no signal to a process group hits both. If both are killed at once, the next
launch, `up` and `down` find what is left by the mark in its environment (machine.py).

SIGTERM is handed to the engine's first process, which knows how to end the others. What is left when it has ended, or
`stop_seconds` later, is killed. Then this process ends as the engine's first process did, so that supervisord's words
about it ("terminated by SIGKILL") are true of the engine.

The engine starts with no way to gain privileges, no core files, bounded memory and open files, as another user where
told so, and before Headgate's own processes in the line of those that the kernel kills for want of memory.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
import time

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
PARENT_DIED = signal.SIGUSR1
WATCHED = STOP_SIGNALS | {signal.SIGCHLD, PARENT_DIED}
LEFTOVER_SECONDS = 1.0  # what outlived the first process is asked to end, and killed after so long
OUTER_SECONDS = 3.0  # by which the outer keeper is more patient than the inner one
STUBBORN_SECONDS = 20.0  # only a kernel that hangs keeps a process longer than that after SIGKILL
OPEN_FILES = 65_536
OOM_SCORE = 500  # of 1000; Headgate's own processes have 0
CANNOT_START = 127  # as shells say it


def main(words: list[str]) -> None:
    """Ends this process in the end, as the engine ended."""
    split = words.index("--")
    orders = dict(word.split("=", 1) for word in words[:split])
    patience = float(orders["stop_seconds"])
    # Waited for one by one, so that none is lost between a look and a pause. The engine gets them back.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    outer = os.getpid()
    inner = os.fork()
    if inner:
        status = Tree(inner).keep(patience + OUTER_SECONDS)
        remove(orders.get("temporary"))
        end_as(status)
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, PARENT_DIED)
    keeper = os.getpid()
    engine = os.fork()
    if not engine:
        become(words[split + 1 :], orders, keeper)
    status = Tree(engine).keep(patience, parent=outer)
    remove(orders.get("temporary"))
    end_as(status)


class Tree:
    """Everything that descends from this process; `first` is its only child of its own."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.status: int | None = None  # of the first process, once it has ended, as wait(2) has it

    def keep(self, patience: float, parent: int = 0) -> int:
        """Returns the wait status of the first process when nothing is left of the tree.

        patience  seconds from SIGTERM, which is handed on once, to SIGKILL
        parent    with it this process goes, too; 0: it does not
        """
        deadline = math.inf
        while self.status is None:
            if parent and os.getppid() != parent:
                self.end("its keeper was killed", grace=0)
                break
            left = deadline - time.monotonic()
            if left <= 0:
                self.end(f"it did not end within {patience:g} s", grace=0)
                break
            arrived = signal.sigtimedwait(WATCHED, min(left, 60.0))
            if arrived is not None and arrived.si_signo in STOP_SIGNALS and deadline == math.inf:
                deadline = time.monotonic() + patience
                send(self.first, signal.SIGTERM)
            self.reap()
        self.end(f"its first process ended ({in_words(self.status)})", grace=LEFTOVER_SECONDS)
        return signal.SIGKILL if self.status is None else self.status

    def end(self, why: str, *, grace: float) -> None:
        """Asks all that is left to end, kills it `grace` seconds later, and says so in the log."""
        began = time.monotonic()
        asked: dict[int, str] = {}
        while left := descendants():
            waited = time.monotonic() - began
            if waited > grace + STUBBORN_SECONDS:
                say(f"these processes do not end: {names(left)}")
                return
            for pid in left:
                if waited >= grace:
                    send(pid, signal.SIGKILL)
                elif pid not in asked:
                    send(pid, signal.SIGTERM)
            asked |= left
            time.sleep(0.01)
            self.reap()
        self.reap()
        if asked:
            say(f"{why}: ended what was left of it, {names(asked)}")

    def reap(self) -> None:
        """Takes the status of every child that has ended; orphans of the tree are children, too."""
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == self.first:
                    self.status = found[1]
        except ChildProcessError:
            pass


def descendants() -> dict[int, str]:
    """Living processes below this one, by id, with their names. Zombies are dead."""
    children: dict[int, list[tuple[int, str]]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as handle:
                    head, _, tail = handle.read().rpartition(")")
            except OSError:
                continue  # it has ended
            state, parent = tail.split()[:2]
            if state not in "ZX":
                children.setdefault(int(parent), []).append((int(entry), head.partition("(")[2]))
    found: dict[int, str] = {}
    ahead = [os.getpid()]
    while ahead:
        for pid, name in children.get(ahead.pop(), ()):
            found[pid] = name
            ahead.append(pid)
    return found


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it has ended meanwhile


# --- becoming the engine ------------------------------------------------------------------------------------


def become(command: list[str], orders: dict[str, str], keeper: int) -> None:
    """Replaces this process by the engine. Never returns: where it cannot, the log has the reason."""
    try:
        confine(orders)
        # After the change of user, which would take it back.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == keeper:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvpe(command[0], command, os.environ)  # noqa: S606 - no shell is the point
    except Exception as error:
        # Not as our own line: the next launcher looks for the cause of the end among the engine's.
        write(f"{command[0]} cannot be started: {error}")
    finally:
        os._exit(CANNOT_START)


def confine(orders: dict[str, str]) -> None:
    """Takes from this process what an engine does not need. Raises OSError or ValueError."""
    os.umask(0o077)
    with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as handle:
        if int(handle.read()) < OOM_SCORE:
            handle.seek(0)
            handle.write(str(OOM_SCORE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if memory_mb := int(orders.get("memory_mb", "0")):
        # Not RLIMIT_AS: CUDA and torch reserve far more addresses than they ever use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_mb << 20, memory_mb << 20))
    if "uid" in orders:
        os.setgroups([int(group) for group in orders["groups"].split(",")])
        os.setresgid(*[int(orders["gid"])] * 3)
        os.setresuid(*[int(orders["uid"])] * 3)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


# --- words and the kernel -----------------------------------------------------------------------------------


def prctl(option: int, value: int) -> None:
    """See prctl(2). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


def remove(folder: str | None) -> None:
    """Takes the engine's temporary folder away, when nobody of the engine is left."""
    if folder:
        import shutil  # not while the engine runs: it takes as much memory as all the rest here

        shutil.rmtree(folder, ignore_errors=True)


def end_as(status: int) -> None:
    """Ends this process as another one ended, by its wait status."""
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # this one is not to blame
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else CANNOT_START)


def in_words(status: int | None) -> str:
    if status is None:
        return "killed"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"terminated by {signal.Signals(number).name if number in set(signal.Signals) else number}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"


def names(processes: dict[int, str]) -> str:
    return ", ".join(f"{name} ({pid})" for pid, name in sorted(processes.items()))


def say(line: str) -> None:
    write(f"[headgate] {line}")


def write(line: str) -> None:
    try:
        os.write(1, (line + "\n").encode())
    except OSError:
        pass  # nobody reads any more: no reason to leave the tree alone


if __name__ == "__main__":
    main(sys.argv[1:])
