"""Tables: median and range of each peer, and the ratio of ours to theirs."""

import os
from collections.abc import Iterable
from pathlib import Path
from statistics import median

Results = dict[str, dict[str, list[float]]]  # metric → peer → samples


def number(value: float) -> str:
    """Write three figures that matter."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(samples: list[float]) -> str:
    if not samples:
        return "-"
    return f"{number(median(samples))} ({number(min(samples))}..{number(max(samples))})"


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the ratio of the medians; below 1 is better than theirs."""
    return f"{median(ours) / median(theirs):.3f}" if ours and theirs and median(theirs) else "-"


def rows(results: Results, peers: list[str], goals: dict[str, str]) -> Iterable[list[str]]:
    for metric, samples in results.items():
        first, *others = (samples.get(peer, []) for peer in peers)
        yield [
            metric,
            cell(first),
            *(text for other in others for text in (cell(other), ratio(first, other))),
            goals.get(metric, ""),
            str(len(first)),
        ]


def table(results: Results, peers: list[str], goals: dict[str, str]) -> str:
    """Return a Markdown table, its columns padded so that it reads well as plain text."""
    head = ["median (min..max)", peers[0]]
    for peer in peers[1:]:
        head += [peer, f"{peers[0]} : {peer}"]
    lines = [[*head, "goal", "n"], *rows(results, peers, goals)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    text = [
        "| " + " | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def load() -> str:
    """Say how busy the machine is: ratios hold on a busy one, milliseconds do not."""
    one, five, _ = os.getloadavg()
    return f"load {one:.1f} (1 min), {five:.1f} (5 min) on {os.cpu_count()} cores"


def machine() -> str:
    """Name kernel, processor and memory."""
    cpu = next((line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return f"Linux {os.uname().release}, {os.cpu_count()} × {cpu}, {memory} GiB"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
