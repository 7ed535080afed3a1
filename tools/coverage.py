#!/usr/bin/env python3
"""Line and branch coverage of the core and engine folders by unit tests and simulation (./dev coverage).

coverage.py BUILD [--uncovered]   sums gcov's answers for BUILD; --uncovered lists the lines that nothing ran
Lines of tests don't count, nor branches that only an exception takes (nothing here throws on purpose), nor the checks of RQ_ASSERT.
"""
import collections
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

FOLDERS = ("command", "raft", "sql", "wal", "ledger", "replica", "executor")
TOP = pathlib.Path(__file__).resolve().parent.parent


def is_counted(path):
    parts = path.parts
    if len(parts) < 3 or parts[0] != "src" or parts[1] not in FOLDERS:
        return False
    return not (path.stem.endswith("_test") or path.stem.startswith("test_"))


def answers(build):
    notes = sorted(str(path) for path in pathlib.Path(build).resolve().rglob("*.gcda"))
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, len(notes), 40):
            subprocess.run(["gcov-12", "--json-format", "--branch-probabilities", *notes[first:first + 40]], cwd=folder, check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for answer in pathlib.Path(folder).glob("*.gcov.json.gz"):
                with gzip.open(answer) as file:
                    yield json.load(file)
                os.unlink(answer)


def main():
    build = sys.argv[1]
    runs = collections.defaultdict(lambda: collections.defaultdict(int))       # file -> line -> runs
    branches = collections.defaultdict(lambda: collections.defaultdict(dict))  # file -> line -> number -> taken
    for answer in answers(build):
        for file in answer["files"]:
            path = pathlib.Path(os.path.normpath(os.path.join(answer["current_working_directory"], file["file"])))
            if not path.is_relative_to(TOP) or not is_counted(path.relative_to(TOP)):
                continue
            path = path.relative_to(TOP)
            source = path.read_text().splitlines() if path.is_file() else []
            for line in file["lines"]:
                number = line["line_number"]
                runs[path][number] += line["count"]
                if number <= len(source) and "RQ_ASSERT" in source[number - 1]:
                    continue
                for at, branch in enumerate(line["branches"]):
                    if not branch["throw"]:
                        taken = branches[path][number]
                        taken[at] = taken.get(at, 0) + branch["count"]
    total = [0, 0, 0, 0]
    print(f"{'folder':<12}{'lines':>8}{'run':>8}{'':>9}{'branches':>10}{'taken':>8}")
    for folder in FOLDERS:
        files = [path for path in runs if path.parts[1] == folder]
        lines = sum(len(runs[path]) for path in files)
        run = sum(1 for path in files for count in runs[path].values() if count)
        ways = sum(len(taken) for path in files for taken in branches[path].values())
        went = sum(1 for path in files for taken in branches[path].values() for count in taken.values() if count)
        print(f"{folder:<12}{lines:>8}{run:>8}{run * 100 / max(lines, 1):>8.1f}%{ways:>10}{went:>8}{went * 100 / max(ways, 1):>8.1f}%")
        total = [total[0] + lines, total[1] + run, total[2] + ways, total[3] + went]
    print(f"{'all':<12}{total[0]:>8}{total[1]:>8}{total[1] * 100 / max(total[0], 1):>8.1f}%{total[2]:>10}{total[3]:>8}{total[3] * 100 / max(total[2], 1):>8.1f}%")
    if "--uncovered" in sys.argv:
        for path in sorted(runs):
            source = path.read_text().splitlines()
            for number, count in sorted(runs[path].items()):
                if not count:
                    print(f"{path}:{number}: {source[number - 1].strip()}")
    return 0 if total[0] and total[1] * 10 >= total[0] * 9 else 1


if __name__ == "__main__":
    os.chdir(TOP)
    sys.exit(main())
