"""What a history of client calls must look like. Pure: histories in, a list of violations (texts) out.

Times are monotonic seconds. A call whose fate is unknown (time-out, lost connection, any error) has outcome "maybe":
it may have taken effect at any time after its start, or never.
"""
import dataclasses
import hashlib

INFINITY = float("inf")


@dataclasses.dataclass(frozen=True)
class Op:
    """A call on one register or list. kind: read, write, cas, append. A read that failed isn't kept at all."""
    kind: str
    start: float
    end: float                   # INFINITY: fate unknown
    value: object = None         # written, appended, or what a read saw
    expected: object = None      # cas: the value that had to be there


class Undecided(Exception):
    """The search was given up; says nothing about the history."""


def register(ops, initial=None, states_max=500_000):
    """Wing and Gong's search for an order in which each read sees the last write. Written values are unique.

    Only a cas that took effect is an Op ("did nothing" is not evidence), so a call of unknown fate whose value nobody saw can be
    left out: leaving it out never makes a good history look bad. One that was seen took effect before that observer's end."""
    seen_by = {}
    for op in ops:
        observed = op.value if op.kind == "read" else op.expected if op.kind == "cas" else None
        if observed is not None:
            seen_by[observed] = min(seen_by.get(observed, INFINITY), op.end)
    # A chain of unknown fates (a cas on a value that only an unseen cas wrote) falls away link by link.
    kept, dropped = list(ops), True
    while dropped:
        needed = {op.value if op.kind == "read" else op.expected for op in kept if op.kind in ("read", "cas")}
        rest = [op for op in kept if op.end != INFINITY or op.value in needed]
        dropped, kept = len(rest) < len(kept), rest
    kept = sorted((dataclasses.replace(op, end=min(op.end, seen_by.get(op.value, INFINITY))) if op.kind != "read" else op for op in kept),
                  key=lambda op: op.start)
    written = {op.value for op in kept if op.kind != "read"} | {initial}
    for op in kept:
        if op.kind == "read" and op.value not in written:
            return ["a read saw %r, which nobody wrote" % (op.value,)]
    tried, stack = set(), [(0, initial)]
    everything = (1 << len(kept)) - 1
    while stack:
        done, value = stack.pop()
        if done == everything:
            return []
        if (done, value) in tried:
            continue
        tried.add((done, value))
        if len(tried) > states_max:
            raise Undecided()
        first_end = min(op.end for i, op in enumerate(kept) if not done >> i & 1)
        for i, op in enumerate(kept):
            if op.start > first_end:
                break
            if done >> i & 1:
                continue
            if op.kind == "write" or (op.kind == "cas" and op.expected == value):
                stack.append((done | 1 << i, op.value))
            elif op.kind == "read" and op.value == value:
                stack.append((done | 1 << i, value))
    return ["no order of the %d calls explains what the reads saw" % len(kept)]


def appended_list(ops, final):
    """Appends and whole reads of one list: `final` is its last state (a list), reads carry lists."""
    bad = []
    if len(set(final)) != len(final):
        bad.append("appended twice: %s" % sorted({v for v in final if final.count(v) > 1})[:5])
    place = {v: i for i, v in enumerate(final)}
    appends = {op.value: op for op in ops if op.kind == "append"}
    bad += ["element %r, which nobody appended" % (v,) for v in final if v not in appends]
    lost = [v for v, op in appends.items() if op.end != INFINITY and v not in place]
    if lost:
        bad.append("acknowledged appends lost: %s" % lost[:5])
    # Who was acknowledged before another began stands before it.
    acknowledged = sorted((op for v, op in appends.items() if op.end != INFINITY and v in place), key=lambda op: op.end)
    furthest, at = -1, 0
    for op in sorted((op for v, op in appends.items() if v in place), key=lambda op: op.start):
        while at < len(acknowledged) and acknowledged[at].end < op.start:
            furthest = max(furthest, place[acknowledged[at].value])
            at += 1
        if place[op.value] < furthest:
            bad.append("append %r stands before one that was acknowledged before it began" % (op.value,))
    reads = [op for op in ops if op.kind == "read"]
    for op in reads:
        if list(op.value) != final[:len(op.value)]:
            bad.append("a read saw %s, no beginning of the final list" % (list(op.value)[-3:],))
    # A read has all that was acknowledged, or read, before it began, and nothing that began after its end.
    known = sorted([(op.end, place[op.value] + 1) for op in acknowledged] + [(op.end, len(op.value)) for op in reads])
    longest, at = 0, 0
    for op in sorted(reads, key=lambda op: op.start):
        while at < len(known) and known[at][0] < op.start:
            longest = max(longest, known[at][1])
            at += 1
        if len(op.value) < longest:
            bad.append("stale read: %d elements, %d were known before it began" % (len(op.value), longest))
        bad += ["a read saw %r before it was sent" % (v,) for v in op.value if v in appends and appends[v].start > op.end]
    return bad


def counter(n, stored, acknowledged, maybe):
    """n: the counter; stored: ids in the table of what was counted (one row for each increment, same transaction)."""
    bad, ids = [], set(stored)
    if n != len(stored):
        bad.append("the counter says %d, %d increments are stored" % (n, len(stored)))
    if len(ids) != len(stored):
        bad.append("applied twice: %d increments" % (len(stored) - len(ids)))
    if acknowledged - ids:
        bad.append("%d acknowledged increments lost: %s" % (len(acknowledged - ids), sorted(acknowledged - ids)[:5]))
    if ids - acknowledged - maybe:
        bad.append("increments that nobody asked for: %s" % sorted(ids - acknowledged - maybe)[:5])
    return bad


def bank(reads, total):
    """reads: (where, [balances]) of any level: each is one committed state."""
    return ["the sum is %s, not %d (%s)" % (sum(balances), total, where) for where, balances in reads if sum(balances) != total]


def link(previous, sequence, value):
    return hashlib.sha256(("%s|%d|%s" % (previous, sequence, value)).encode()).hexdigest()


def chained_rows(rows, acknowledged):
    """rows: (sequence, previous hash, value, hash) in order; acknowledged: hashes."""
    bad, previous = [], ""
    for place, (sequence, before, value, own) in enumerate(rows):
        if sequence != place + 1:
            bad.append("row %d stands at place %d" % (sequence, place + 1))
        if before != previous:
            bad.append("row %d follows another row than the one it was written after" % sequence)
        if own != link(before, sequence, value):
            bad.append("row %d isn't what was written" % sequence)
        previous = own
    lost = acknowledged - {row[3] for row in rows}
    return bad + (["%d acknowledged rows lost" % len(lost)] if lost else [])


def loads(rows, generation, loads_acknowledged, inserts):
    """After loads of images: rows (id, generation) of the table that each image empties; inserts: acknowledged, id -> Op.

    loads_acknowledged: generation -> Op; a load of unknown fate has end INFINITY."""
    bad = []
    bad += ["row %s of generation %s outlived the load of %s" % (i, g, generation) for i, g in rows if g != generation][:5]
    last = loads_acknowledged.get(generation)
    stored = {i for i, _ in rows}
    if len(stored) != len(rows):
        bad.append("rows stored twice: %d" % (len(rows) - len(stored)))
    if last is not None and last.end != INFINITY:
        later = max([op.end for g, op in loads_acknowledged.items() if op.start >= last.start])
        lost = [i for i, op in inserts.items() if op.start > later and i not in stored]
        if lost:
            bad.append("acknowledged rows lost after the load of %s: %s" % (generation, lost[:5]))
    return bad


def availability(successes, begin, end, excused=(), slot=0.1):
    """Between begin and end: (share of slots with a success, the same without the slots that lie in `excused` spans, longest time without a
    success, when that began)."""
    times = sorted(t for t in successes if begin <= t <= end)
    slots = range(max(1, int((end - begin) / slot)))
    hit = {int((t - begin) / slot) for t in times}
    fair = [s for s in slots if not any(a <= begin + (s + 1) * slot and begin + s * slot <= b for a, b in excused)]
    gap, at, previous = 0.0, begin, begin
    for t in times + [end]:
        if t - previous > gap:
            gap, at = t - previous, previous
        previous = t
    return sum(s in hit for s in slots) / len(slots), sum(s in hit for s in fair) / len(fair) if fair else 1.0, gap, at


def recovery(sent_and_done, moment):
    """Seconds from `moment` to the end of the first success that was sent after it; None: there is none."""
    later = [done for sent, done in sent_and_done if sent >= moment]
    return min(later) - moment if later else None
