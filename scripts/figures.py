#!/usr/bin/env python3
"""Writes measured figures into the documents, between the lines "<!-- figures: NAME -->" and "<!-- end -->".

    figures.py sweeps LOG     counts of the sweeps, from a log of `make test` or `make test-crash`, into docs/failures.md
    figures.py bench JSON     figures of `make bench`, into docs/performance.md

`make figures` runs both on the logs of the last `make test` and the last `make bench`.
"""

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"

# Each row of the sweeps' table, and the expressions whose numbers it adds up.
SWEEPS = [
    ("kills before each system call of each operation", [r"(\d+) kills of operations"]),
    ("different states that these leave", [r"(\d+) different states left by them"]),
    ("kills before each call of the recovery from them", [r"(\d+) kills of the recovery"]),
    ("failing or halved I/O calls", [r"(\d+) faults"]),
    ("power cuts", [r"swept: power: +(\d+) cuts"]),
    ("kills in the stress of processes and threads", [r"stress, seed .* threads, (\d+) kills"]),
    ("operations run within each other", [r"pairs of operations, (\d+) interleavings"]),
    ("damaged databases, logs and journals", [r": (\d+) cases of "]),
    ("changed rows and schemas", [r": (\d+) statements, "]),
    ("odd files", [r"names: (\d+) entries", r"names: (\d+) things"]),
    ("odd attributes and times", [r"attributes: (\d+) "]),
]


def table(header, rows, left=1):
    """A Markdown table whose first columns are text, and the others numbers."""
    lines = [header, ["---"] * left + ["---:"] * (len(header) - left), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def write(document, name, text):
    path = DOCS / document
    begin, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
    before, found, rest = path.read_text().partition(begin)
    if not found or end not in rest:
        sys.exit(f"figures.py: {path} has no place for {name}")
    path.write_text(before + begin + text + end + rest.partition(end)[2])
    print(f"{name}: written to docs/{document}")


def sweeps(log):
    lines = [line for line in Path(log).read_text(errors="replace").splitlines() if "swept: " in line]
    rows = []
    for what, patterns in SWEEPS:
        found = [int(match[1]) for line in lines for match in (re.search(p, line) for p in patterns) if match]
        if not found:
            sys.exit(f"figures.py: {log} has no count of: {what}")
        rows.append([what, f"{sum(found):,}"])
    write("failures.md", "sweeps", table(["sweep", "count"], rows))


def digits(value):
    """Three significant digits, without an exponent and trailing zeros."""
    return f"{float(f'{value:.3g}'):f}".rstrip("0").rstrip(".")


UNITS = {
    "seconds": [(1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")],
    "bytes": [(1 << 20, "MiB"), (1 << 10, "KiB")],
    "bytes_per_second": [(1e9, "GB/s"), (1e6, "MB/s")],
    "per_second": [(1e6, "M/s"), (1e3, "k/s"), (1, "/s")],
}
TARGETS = {
    "at_most_times": "≤ {} x",
    "at_least_times": "≥ {} x",
    "within": "{} to {} x",
    "at_most": "≤ {}",
    "at_least": "≥ {}",
}


def quantity(figure):
    """A figure of the benchmark's JSON with its unit, as the benchmark prints it."""
    if figure is None:
        return ""
    scales = UNITS.get(figure["unit"])
    if scales is None:
        return digits(figure["value"])
    scale, name = next((s for s in scales if abs(figure["value"]) >= s[0]), scales[-1])
    return f"{digits(figure['value'] / scale)} {name}"


def target(of_finding):
    if of_finding == "none":
        return ""
    (kind, limit), = of_finding.items()
    limits = limit if isinstance(limit, list) else [limit]
    return TARGETS[kind].format(*(quantity(l) if isinstance(l, dict) else digits(l) for l in limits))


def bench(figures):
    report = json.loads(Path(figures).read_text())
    if report["quick"]:
        sys.exit("figures.py: a quick run has no figures for the documents")
    rows = []
    for finding in report["findings"]:
        ratio = "" if finding["ratio"] is None else digits(finding["ratio"])
        met = {True: "met", False: "not met", None: ""}[finding["met"]]
        floor = quantity(finding["floor"])
        rows.append([finding["row"], quantity(finding["ours"]), floor, ratio, target(finding["target"]), met])
    write("performance.md", "bench", table(["work", "ours", "bare calls", "ratio", "target", ""], rows))

    peers = [(peer["who"], dict(peer["figures"])) for peer in report["peers"]]
    if peers:
        works = list(dict.fromkeys(work for _, figures in peers for work in figures))
        rows = [[work, *(quantity(figures.get(work)) or "-" for _, figures in peers)] for work in works]
        write("performance.md", "peers", table(["the same work", *(who for who, _ in peers)], rows))
    if report.get("storm"):
        peers = [(peer["who"], dict(peer["figures"])) for peer in report["storm"]["peers"]]
        works = list(dict.fromkeys(work for _, figures in peers for work in figures))
        rows = [[work, *(quantity(figures.get(work)) or "-" for _, figures in peers)] for work in works]
        write("performance.md", "storm", table(["a storm", *(who for who, _ in peers)], rows))


if __name__ == "__main__":
    commands = {"sweeps": sweeps, "bench": bench}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2])
