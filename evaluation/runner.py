"""Batch by batch and method by method, leaving out what is there already."""

from collections.abc import Callable, Sequence

from evaluation.backend import Backend, Plan
from evaluation.items import Item
from evaluation.results import Results

Advance = Callable[[str, int], None]
"""Is told of a method, and of how many more images are done with it."""


def run(plan: Plan, backend: Backend, items: Sequence[Item], results: Results, *, batch: int, advance: Advance) -> None:
    """Explain and measure every item by every method.

    Batches are the same however often a run is cut off, so that its figures are the same bits: where a single line of a
    batch is missing, the whole batch is computed again.

    Raises:
        EvaluationError: it can't go on. What was found is kept.
    """
    for start in range(0, len(items), batch):
        group = items[start : start + batch]
        missing = [method for method in plan.methods if any((item.id, method) not in results for item in group)]
        for method in plan.methods.keys() - set(missing):
            advance(method, len(group))
        if missing:
            _run_batch(plan, backend, group, missing, results, advance)


def _run_batch(
    plan: Plan,
    backend: Backend,
    group: Sequence[Item],
    methods: Sequence[str],
    results: Results,
    advance: Advance,
) -> None:
    prepared = backend.prepare(group, plan)
    for method in methods:
        for item, error in prepared.failures.items():
            if (item, method) not in results:
                results.add_failure(item, method, error)
        if prepared.items:
            outcomes = backend.explain(prepared, method, plan)
            for each, outcome in zip(prepared.items, outcomes, strict=True):
                if (each.id, method) not in results:
                    results.add(each.id, method, outcome)
        advance(method, len(group))
