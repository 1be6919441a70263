"""Giving up root between opening the sockets and reading the first frame.

A process keeps nothing that it could take back: other user and groups, no capabilities, and no
gain by running a set-user-ID program (PR_SET_NO_NEW_PRIVS, prctl(2)). Knows no sockets.
"""

import ctypes
import os
import time
from pathlib import Path

from ..daemon.account import Account

_PR_SET_NO_NEW_PRIVS = 38
_THREADS_END_S = 20.0  # more than the C library waits for a name with what `mcr relay` asks of it


class PrivilegeError(Exception):
    """Root could not be given up; the text is one sentence for the user."""


def drop(account: Account) -> None:
    """Become the account for good; call it while the process has one thread only.

    Linux keeps the no-new-privileges flag per thread and new threads inherit it: hence before
    the engine starts its threads.

    Raises:
        PrivilegeError: the kernel refused, or a right is left afterwards.
    """
    if not _is_alone():
        raise PrivilegeError("root cannot be given up once threads run")
    try:
        if account.uid != 0:
            os.setgroups([])
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        raise PrivilegeError(
            f"cannot become {account.name} (uid {account.uid}): {error.strerror}; "
            "in a user namespace that lacks this uid, --user root stays as it is"
        ) from error
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise PrivilegeError(f"prctl(PR_SET_NO_NEW_PRIVS): {os.strerror(ctypes.get_errno())}")
    _verify(account)


def _is_alone() -> bool:
    """Whether this is the only thread; one that looks up a host name may end yet."""
    ends_s = time.monotonic() + _THREADS_END_S
    while len(os.listdir("/proc/self/task")) != 1:
        if time.monotonic() > ends_s:
            return False
        time.sleep(0.005)
    return True


def _verify(account: Account) -> None:
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    left = [
        name
        for name, wanted, found in (
            ("user", (account.uid,) * 3, os.getresuid()),
            ("group", (account.gid,) * 3, os.getresgid()),
            ("no_new_privs", "1", status["NoNewPrivs"]),
        )
        if wanted != found
    ]
    if account.uid != 0:
        capabilities = ("CapEff", "CapPrm", "CapInh", "CapAmb")
        left += [name for name in capabilities if int(status[name], 16)]
        left += ["groups"] if os.getgroups() else []
    if left:
        raise PrivilegeError(f"rights of root are left after the change: {', '.join(left)}")
