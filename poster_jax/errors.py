"""The one exception class for mistakes that a user can mend.

`main` turns a `UserError` into one sentence and exit code 2; every other exception keeps its traceback, because it is our bug.
"""


class UserError(Exception):
    """A wrong key, value, file or folder; the message is one sentence that names it and says the way out."""


class Interrupted(Exception):
    """SIGTERM or SIGINT arrived and the state is saved; `main` exits with code 75 (not finished: run again).

    `alone` says that other processes of the run may know nothing of it.
    """

    def __init__(self, reason: str, alone: bool = False) -> None:
        super().__init__(reason)
        self.alone = alone
