"""The data sets that `data.variant` names, and what checks and tables must know of each; `data.places` reads them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class SourceFacts:
    """A data set's name in tables, and which key of `config.data` it needs, "" for none.

    is_own: a person's own posters, of which every config learns all labels unless it says otherwise.
    """

    name: str
    needs: str = ""
    is_own: bool = False


SOURCES = {
    "synthetic": SourceFacts("synthetic posters"),
    "kaggle": SourceFacts("Kaggle posters", needs="dir"),
    "csv": SourceFacts("own posters", needs="csv", is_own=True),
    "folder": SourceFacts("own posters", needs="dir", is_own=True),
    "own": SourceFacts("own posters", is_own=True),
    "packed": SourceFacts("a packed cache", needs="dir"),
}
