#!/usr/bin/env python3
"""Checks a machine can do: banned calls outside their places, leftover markers, line and file length."""
import os
import re
import sys

top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINE_MAX, FILE_MAX = 180, 1000
# call -> where it is allowed (prefixes)
BANNED = {
    r"system_clock::now": ("src/base/clock.cc",),
    r"random_device|\bstd::rand\b|\bsrand\(": (),
    r"\bgetenv\(": ("src/cluster/status.cc", "src/tls/tls.cc", "src/app/"),
    r"sleep_for": ("src/replica/replica.cc", "src/http/server.cc", "src/executor/", "tests/", "src/ledger/"),
    r"std::thread\b": ("src/replica/", "src/http/", "src/sql/read_pool", "src/transport/", "src/auth/authority", "src/cluster/", "src/app/", "src/ops/",
                       "src/store/store.cc", "src/store/keeper", "src/store/scrubber", "src/executor/checkpointer", "src/backup/workers", "examples/", "tests/", "bench/"),
}
MARKERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
problems = []
files = []
for folder in ("src", "tests", "tools", "bench", "examples"):      # walked, not asked of git: a bare machine has none
    for root, _, names in os.walk(os.path.join(top, folder)):
        files += [os.path.relpath(os.path.join(root, n), top) for n in sorted(names) if n.endswith((".cc", ".h", ".rs", ".py"))]
for name in files:
    if name.startswith("tests/conformance/") or name == "tools/tidy.py":
        continue
    path = os.path.join(top, name)
    if not os.path.exists(path):
        continue
    lines = open(path, encoding="utf-8").read().split("\n")
    if len(lines) > FILE_MAX:
        problems.append("%s: %d lines" % (name, len(lines)))
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_MAX:
            problems.append("%s:%d: %d characters" % (name, number, len(line)))
        if MARKERS.search(line):
            problems.append("%s:%d: leftover marker" % (name, number))
        if not name.endswith((".cc", ".h")) or name.endswith("_test.cc"):
            continue
        code = line.split("//")[0]
        for pattern, places in BANNED.items():
            if re.search(pattern, code) and not name.startswith(places):
                problems.append("%s:%d: %s is not for this folder" % (name, number, pattern))
for problem in problems:
    print(problem)
print("tidy: %d files, %d problems" % (len(files), len(problems)))
sys.exit(1 if problems else 0)
