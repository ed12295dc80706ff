"""Claims of sections I-A, I-B and II-A that need no training: counts of the catalog, and depthwise convolutions."""

from poster_jax.paper import estimates, verdicts
from poster_jax.paper.evidence import Entry, Evidence
from poster_jax.paper.verdicts import Above, AtLeast, Beside, Claim, Counted, Found, Sufficient

BALANCED = (
    "movies are drawn without repeats until every genre has as many as the rarest, before the split, and no row stands for one "
    "genre of a movie alone (exploded)."
)


def _counts(evidence: Evidence) -> list[int]:
    """Movies of each of the six genres, the most frequent first; none without a catalog."""
    population = evidence.facts["population"]
    return list(population["counts"].values()) if population else []


def _num_movies(evidence: Evidence) -> Found:
    population = evidence.facts["population"]
    return Found(estimates.count(population["num_movies"] if population else None))


def _rarest(evidence: Evidence) -> Found:
    counts = _counts(evidence)
    return Found(estimates.count(counts[-1] if counts else None))


def _imbalance(evidence: Evidence) -> Found:
    counts = _counts(evidence)
    return Found(estimates.count(counts[0] / counts[-1] if counts else None))


def _smaller(evidence: Evidence) -> Found:
    cost = evidence.facts["depthwise"]
    return Found(estimates.count(cost["parameters"]["full"] / cost["parameters"]["separable"]))


def _faster(evidence: Evidence) -> Found:
    cost = evidence.facts["depthwise"]
    ratios = [full / separable for separable, full in cost["rounds"]]
    operations = cost["operations"]["full"] / cost["operations"]["separable"]
    beside = Beside("operations of the full convolutions over those of the pairs", estimates.count(operations))
    return Found(verdicts.over_repeats(ratios, "rounds"), (beside,))


COUNTS: tuple[Entry, ...] = (
    (
        Claim(
            "39,515 posters",
            "I-A",
            "movies in the catalog of genre strings",
            Counted(39515, "the catalog that is at hand is a part of the report's"),
        ),
        _num_movies,
    ),
    (
        Claim(
            "great imbalance between genres",
            "I-A, Figure 1",
            "movies of the most frequent of the six over those of the rarest",
            Above(2),
        ),
        _imbalance,
    ),
    (
        Claim(
            "at least 1,000 posters for each of the six genres",
            "I-A, Figure 2",
            "movies of the rarest of the six, by any mention",
            AtLeast(1000),
        ),
        _rarest,
    ),
)

DEPTHWISE: tuple[Entry, ...] = (
    (
        Claim(
            "depthwise separable convolutions decrease the model size",
            "I-B",
            "parameters of full 3x3 convolutions over those of the depthwise and pointwise pairs, the 17 blocks of MobileNetV2",
            Above(1),
        ),
        _smaller,
    ),
    (
        Claim(
            "depthwise separable convolutions increase the speed",
            "I-B",
            "forward seconds of full 3x3 convolutions over those of the pairs, the 17 blocks of MobileNetV2 at 128 x 128",
            Above(1),
            note="Measured on the machine of the reproduction, with the forms of both convolutions that training takes there.",
        ),
        _faster,
    ),
)

STEPS: tuple[Entry, ...] = (
    (
        Claim(
            "449 steps of 32 an epoch: 14,368 to 14,399 training rows, 60 % of at least 3,991 a genre",
            "II-A, Table 1",
            "movies of the rarest of the six, by any mention",
            Sufficient(3991, "a cap, repeated draws or a row for each genre of a movie would give 449 steps from fewer"),
            note=f"The report does not say how it balanced. Here {BALANCED}",
        ),
        _rarest,
    ),
)
