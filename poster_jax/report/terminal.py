"""What a run prints when it ends: the table of its results, by the protocol that wrote them."""

from collections.abc import Callable, Mapping
from typing import Any

from poster_jax.report.tables import ablation_table, claims_table, closing, probe_table, run_table, search_table, transfer_table
from poster_jax.workdir import run_files


def text(results: Mapping[str, Any], *, verbose: bool = False) -> str:
    """The end of a run, as plain text that ends in a newline: in short where its result is one recipe's, else its table.

    verbose: every metric of every part in any case.
    """
    protocol = run_files.find_protocol(results)
    if verbose or protocol in ("ablation", "reproduce"):
        return TABLES[protocol](results)
    seeds = results.get("seeds", [results])
    extra = f"{search_table.search_table(results['search'])}\n" if protocol == "search" else ""
    return extra + closing.closing_text(seeds, results.get("mean_of_scores"))


def _single(results: Mapping[str, Any]) -> str:
    if "seeds" in results:
        return run_table.seeds_table(results["seeds"], results.get("mean_of_scores"))
    return run_table.results_table(results)


def _transfer(results: Mapping[str, Any]) -> str:
    return f"{_single(results)}\n{transfer_table.transfer_table(results.get('seeds', [results]))}"


def _probe(results: Mapping[str, Any]) -> str:
    return f"{_single(results)}\n{probe_table.probe_table(results['probe'])}"


def _search(results: Mapping[str, Any]) -> str:
    return f"{search_table.search_table(results['search'])}\n{_single(results)}"


TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "single": _single,
    "transfer": _transfer,
    "probe": _probe,
    "search": _search,
    "ablation": ablation_table.ablation_table,
    "reproduce": claims_table.ledger_text,
}
