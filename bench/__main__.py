"""Measure windlass beside Debian's dockerd, both on private roots, alternating in one run.

    scripts/bench [--cases run,exec] [--rounds N] [--alone] [--peer NAME=unix:///path.sock] [--json FILE]

Read the ratios: absolute times move with whatever else the machine does. Rounds alternate (A B, B A, …),
so that drift hits both alike. Nothing is installed; what is missing is named.
"""

import argparse
import json
import sys
from pathlib import Path

import archives
import networks
import registries
import report
from cases import CASES as BASE_CASES
from cases import Case
from peers import Peer, dockerd, windlass
from wire import Refused

CASES = [*BASE_CASES, *networks.CASES, *registries.CASES, *archives.CASES]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    names = [*(case.name for case in CASES), "job"]
    parser.add_argument("--cases", default=",".join(names), help=f"of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help="rounds of every case (each has a number of its own)")
    parser.add_argument("--alone", action="store_true", help="measure windlass only")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=unix:///PATH", help="an engine that runs")
    parser.add_argument("--json", type=Path, help="keep every sample in this file")
    found = parser.parse_args()
    found.cases = found.cases.split(",")
    if unknown := set(found.cases) - set(names):
        parser.error(f"no such case: {', '.join(unknown)} (there are {', '.join(names)})")
    return found


def measure(case: Case, peers: list[Peer], rounds: int) -> report.Results:
    """Run a case: one round to warm up, then `rounds` that count, each in the other order than the last."""
    results: report.Results = {}
    failed: set[str] = set()
    for number in range(-1, rounds):
        for peer in peers if number % 2 else peers[::-1]:
            if peer.name in failed or (case.name == "startup" and not peer.can_start()):
                continue
            try:
                sample = case.sample(peer)
            except (OSError, Refused, AssertionError, KeyError) as error:
                failed.add(peer.name)
                print(f"{case.name}: {peer.name} is out: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            if number >= 0:
                for metric, value in sample.items():
                    results.setdefault(metric, {}).setdefault(peer.name, []).append(value)
    return results


def show(title: str, results: report.Results, peers: list[str], goals: dict[str, str]) -> None:
    print(f"\n**{title}** [{report.load()}]\n\n{report.table(results, peers, goals)}", flush=True)


def main() -> None:
    """Start the peers, measure the cases, print tables, stop and clean up."""
    asked = arguments()
    everything: dict[str, report.Results] = {}
    print(f"{report.machine()}; {report.load()}")
    if "job" in asked.cases:
        import job

        results = {metric: {"windlass": samples} for metric, samples in job.run(asked.rounds or 10).items()}
        show("job: a bare job in one process", results, ["windlass"], job.GOAL)
        everything["job"] = results
    if set(asked.cases) - {"job"}:
        everything |= compare(asked)
    if asked.json:
        asked.json.write_text(json.dumps({"machine": report.machine(), "results": everything}, indent=1))


def compare(asked: argparse.Namespace) -> dict[str, report.Results]:
    """Measure the cases that need running engines."""
    given = [Peer(name, path=url.removeprefix("unix://")) for name, _, url in (p.partition("=") for p in asked.peer)]
    peers = [windlass(), *([] if asked.alone else [dockerd()]), *given]
    found: dict[str, report.Results] = {}
    try:
        for peer in peers:
            if peer.can_start():
                peer.start()
            peer.prepare()
            print(f"{peer.name}: {peer.wire.get('/version')['Version']}")
        for case in CASES:
            if case.name in asked.cases:
                found[case.name] = measure(case, peers, asked.rounds or case.rounds)
                show(f"{case.name}: {case.what}", found[case.name], [peer.name for peer in peers], case.goals)
    finally:
        registries.close()
        for peer in peers:
            peer.close()
    return found


if __name__ == "__main__":
    main()
