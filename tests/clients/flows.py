"""Runs the flows of a client written in Python and reports them as run.py wants it."""
import os
import sys
import traceback

SINGLE, FOLLOWER, LEADER, AUTH = (os.environ[name] for name in ("RQ_SINGLE", "RQ_FOLLOWER", "RQ_LEADER", "RQ_AUTH"))
TARGETS = {"single": SINGLE, "follower": FOLLOWER}

TEXT = "žluťoučký 漢字 🦀 'quoted' \"twice\" \\ \n end"
BLOB = bytes(range(256))
INT64 = 9223372036854775807
FLOAT = 0.1


def host_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def raises(kind, function, text=""):
    """The error's text, or fails."""
    try:
        function()
    except kind as error:
        assert text in str(error), "%r lacks %r" % (str(error), text)
        return str(error)
    raise AssertionError("%s was expected" % kind)


def main(on_targets, once=()):
    """on_targets: functions of (address), run for each target; once: functions without arguments."""
    flows = [("%s at a %s" % (f.__name__, name), lambda f=f, a=address: f(a)) for name, address in TARGETS.items() for f in on_targets]
    flows += [(f.__name__, f) for f in once]
    failed = 0
    for name, flow in flows:
        try:
            flow()
            print("ok   " + name)
        except Exception as error:  # noqa: BLE001: every failure is reported, the others still run
            failed += 1
            print("FAIL %s: %s: %s" % (name, type(error).__name__, str(error)[:500]))
            print("     " + traceback.format_exc().strip().replace("\n", "\n     "))
    sys.exit(1 if failed else 0)
