"""What one training run is given."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Cadence:
    """When things happen, in steps; `total` is also a moment for each of them."""

    total: int
    log: int
    evaluate: int
    save: int

    def is_due(self, every: int, step: int) -> bool:
        """True at multiples of `every` and at the last step."""
        return step % every == 0 or step == self.total
