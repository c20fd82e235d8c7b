"""Who a daemon shall be: names and numbers of users and groups; unknown ones are told."""

from __future__ import annotations

import os
import pwd
import re

import pytest

from spawnpool.daemonize import CannotDetach, become, drop_privileges

NOBODY = pwd.getpwnam("nobody")


@pytest.mark.parametrize(
    ("user", "group", "sentence"),
    [
        ("no-such-user", None, "there is no user 'no-such-user' on this machine: create it, or name another"),
        ("nobody", "no-such", "there is no group 'no-such' on this machine: create it, or name another"),
        ("987654", None, "user 987654 is not in the list of this machine's users: name a group for it, too"),
        (str(2**32 - 1), "0", "there is no user '4294967295' on this machine"),
    ],
)
def test_unknown_names_are_told(user: str, group: str | None, sentence: str) -> None:
    """With what to do."""
    with pytest.raises(CannotDetach, match=re.escape(sentence)):
        become(user, group)


def test_names_and_numbers_of_users_and_groups_are_understood() -> None:
    """A user comes with its group; who is not asked to become anybody stays who it is."""
    assert become(None, None) == (os.geteuid(), os.getegid())
    assert become("nobody", None) == become(str(NOBODY.pw_uid), None) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert become("nobody", "root") == become("nobody", "0") == (NOBODY.pw_uid, 0)
    assert become(None, "4242") == (os.geteuid(), 4242)
    assert become("987654", "0") == (987654, 0)
    drop_privileges(os.geteuid(), os.getegid())
