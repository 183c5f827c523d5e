"""Every method: how it agrees with its definition and with other libraries, and what it costs.

`python -m benchmarks.methods [--networks ...] [--seconds 3] [--output docs/benchmarks/methods.md]`

Costs are in forward passes of the bare network under inference mode, for one image and one class: floating point
operations as torch's FlopCounterMode counts them, and time of one thread beside a forward pass right before and after.
A program that takes longer than --seconds is stopped there, and the rest of its steps costs as much as those behind the
first that it made.
Figures of each network are kept in build/methods/, so that a run that was cut off goes on with the next one.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.agreement import Agreement, compare_maps, reference_errors
from benchmarks.method_cost import Gauge, Meter, run_ours, run_peer
from benchmarks.method_networks import NETWORKS, Subject
from benchmarks.peer import Peer
from benchmarks.peers import programs
from benchmarks.timing import machine
from explainers import METHODS, Method, NotApplicableError

CACHE = Path("build/methods")
MOST_PASSES = 1500  # of a library's method that is run to its end, to see how the maps agree
LIBRARIES = ("grad-cam", "captum", "torchcam", "zennit")


def measure(subject: Subject, seconds: float) -> dict[str, Any]:
    """Every method on one network: its cost, each library's cost, and how their maps agree."""
    meter = Meter(subject, seconds)
    for rows_alike in (False, True):
        subject.network.for_many_passes(rows_alike=rows_alike)  # which tries once: no cost of a request
    found: dict[str, Any] = {}
    for name in tqdm(METHODS, desc=subject.name, unit="method"):
        try:
            method = METHODS[name]().resolve(subject.network)
        except NotApplicableError:
            continue
        found[name] = {"ours": meter.cost(lambda gauge, method=method: run_ours(method, subject, gauge)), "peers": {}}  # type: ignore[misc]
        parameters = dataclasses.asdict(method)  # type: ignore[call-overload]
        for library, peer in programs(name, subject.setting, parameters).items():
            entry: dict[str, Any] = meter.cost(lambda gauge, peer=peer: run_peer(peer, gauge))  # type: ignore[misc]
            if subject.real and (peer.passes or 0) <= MOST_PASSES:
                entry["agreement"] = agreement(method, peer, subject)
            found[name]["peers"][library] = entry
    return found


def agreement(method: Method, peer: Peer, subject: Subject) -> dict[str, float]:
    """How both maps agree when both run to their end."""
    own, other = Gauge(math.inf), Gauge(math.inf)
    run_ours(method, subject, own)
    run_peer(peer, other)
    if own.saliency is None or other.saliency is None:
        raise RuntimeError("a program without a limit was stopped")
    return dataclasses.asdict(compare_maps(own.saliency, other.saliency))


def cached(name: str, file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier run measured, or measure now and keep it."""
    if file.is_file():
        print(f"{name}: taken from {file}")
        return json.loads(file.read_text())  # type: ignore[no-any-return]
    found = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1))
    return found


def report(errors: dict[str, float], networks: dict[str, dict[str, Any]], seconds: float) -> str:
    """The results as Markdown."""
    lines = [
        "# Every method: agreement and cost",
        "",
        f"`python -m benchmarks.methods --seconds {seconds:g}`",
        "",
        f"{machine()}.",
        "",
        "Layer-CAM without further layers, LRP by its default rule, Opti-CAM as published.",
        "",
        "## Agreement",
        "",
        "*Definition*: largest difference of the map in [0, 1] from the slow reference in tests/explainers, on the",
        "test networks, all classes. The other columns: rank correlation with the library's map on the real",
        "networks, one photograph each; lowest of the networks. Below 1 the library departs from the paper, or the",
        "method draws random numbers; tests/oracles undoes the departures and then asks for equality.",
        "",
        "| method | definition | " + " | ".join(LIBRARIES) + " |",
        "|---|---|" + "---|" * len(LIBRARIES),
    ]
    for name, error in errors.items():
        cells = [_lowest(name, library, networks) for library in LIBRARIES]
        lines.append(f"| {METHODS[name].title} | {error:.1e} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Cost",
        "",
        "In forward passes of the bare network: operations counted, and time of one thread. The other columns: what",
        "the library takes, in times of ours. One image, one class, default parameters, the same for the libraries.",
        "*: stopped after some seconds; each further step costs as much as those behind the first that it made.",
        "Networks with random weights cost what trained ones do. Processor time, but on a machine with other work:",
        "differences of a tenth say nothing.",
    ]
    for name, figures in networks.items():
        lines += ["", f"### {name}", "", "| method | operations | time | " + " | ".join(LIBRARIES) + " |"]
        lines.append("|---|---|---|" + "---|" * len(LIBRARIES))
        for method, entry in figures.items():
            lines.append(_cost_row(METHODS[method].title, entry))
    return "\n".join(lines) + "\n"


def _lowest(method: str, library: str, networks: dict[str, dict[str, Any]]) -> str:
    entries = [figures.get(method, {}).get("peers", {}).get(library, {}) for figures in networks.values()]
    found = [Agreement(**entry["agreement"]).correlation for entry in entries if "agreement" in entry]
    return f"{min(found):.3f}" if found else ""


def _cost_row(title: str, entry: dict[str, Any]) -> str:
    ours = entry["ours"]
    mark = "*" if ours["stopped"] else ""
    cells = []
    for library in LIBRARIES:
        peer = entry["peers"].get(library)
        cells.append(f"{peer['time'] / ours['time']:.3g}{'*' if peer['stopped'] else ''}" if peer else "")
    return f"| {title} | {ours['flops']:.3g}{mark} | {ours['time']:.3g}{mark} | " + " | ".join(cells) + " |"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=3, help="for each program")
    parser.add_argument("--fresh", action="store_true", help="measure again what an earlier run has measured")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/methods.md"), help="file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # processor time says nothing about threads that wait for each other
    torch.set_flush_denormal(True)
    if arguments.fresh:
        for file in CACHE.glob("*.json"):
            file.unlink()
    errors = cached("definitions", CACHE / "definitions.json", reference_errors)
    figures = {
        name: cached(name, CACHE / f"{name}.json", lambda name=name: measure(NETWORKS[name](), arguments.seconds))  # type: ignore[misc]
        for name in arguments.networks
    }
    arguments.output.write_text(report(errors, figures, arguments.seconds))


if __name__ == "__main__":
    main()
