#!/usr/bin/env python3
"""Checks that every #include between folders of src/ is allowed by tools/layers.txt and that the folder graph has no cycle.

Tests (*_test.cc and headers only they use) may include more: they are not part of the graph.
"""
import os
import re
import sys

top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
allowed = {}
for line in open(os.path.join(top, "tools/layers.txt")):
    line = line.split("#")[0].strip()
    if line:
        folder, _, rest = line.partition(":")
        allowed[folder.strip()] = rest.split()

problems, edges = [], {}
for root, _, names in os.walk(os.path.join(top, "src")):
    for name in names:
        if not name.endswith((".cc", ".h")) or name.endswith("_test.cc") or name.startswith("test_"):
            continue
        path = os.path.join(root, name)
        folder = os.path.relpath(path, os.path.join(top, "src")).split(os.sep)[0]
        if folder not in allowed:
            problems.append("%s: folder %s is not in tools/layers.txt" % (path, folder))
            continue
        for number, line in enumerate(open(path, encoding="utf-8"), 1):
            found = re.match(r'#include "([a-z0-9_]+)/', line)
            if not found or found.group(1) == folder or found.group(1) == "support":
                continue
            target = found.group(1)
            edges.setdefault(folder, set()).add(target)
            if "*" not in allowed[folder] and target not in allowed[folder]:
                problems.append("%s:%d: %s may not include %s" % (os.path.relpath(path, top), number, folder, target))


def visit(folder, trail):
    if folder in trail:
        problems.append("cycle: " + " -> ".join(trail[trail.index(folder):] + [folder]))
        return
    for target in sorted(edges.get(folder, ())):
        visit(target, trail + [folder])


for start in sorted(edges):
    visit(start, [])
for problem in sorted(set(problems)):
    print(problem)
print("layers: %d folders, %d edges, %d problems" % (len(edges), sum(map(len, edges.values())), len(set(problems))))
sys.exit(1 if problems else 0)
