"""The one exception class for mistakes that a user can mend.

`main` turns a `UserError` into one sentence and exit code 2; every other exception keeps its traceback, because it is our bug.
"""


class UserError(Exception):
    """A wrong key, value, file or folder; the message is one sentence that names it and says the way out."""


class Diverged(UserError):
    """A network's scores are not finite any more; `step` is where that was seen."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"the network has diverged, its scores at step {step} are not finite: lower config.optim.learning_rate."
        )
        self.step = step


class Interrupted(Exception):
    """SIGTERM or SIGINT arrived and the state is saved; `main` exits with code 75 (not finished: run again).

    `alone` says that other processes of the run may know nothing of it.
    """

    def __init__(self, reason: str, alone: bool = False) -> None:
        super().__init__(reason)
        self.alone = alone
