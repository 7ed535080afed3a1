#!/usr/bin/env python3
"""Each checker finds the histories it is there for, and accepts good ones."""
import random
import unittest

import checkers
from checkers import INFINITY, Op


def write(start, end, value):
    return Op("write", start, end, value)


def read(start, end, value):
    return Op("read", start, end, value)


def cas(start, end, expected, value):
    return Op("cas", start, end, value, expected)


class Register(unittest.TestCase):
    def good(self, *ops):
        self.assertEqual(checkers.register(ops), [])

    def bad(self, *ops):
        self.assertTrue(checkers.register(ops))

    def test_accepts_sequence_and_overlap(self):
        self.good(write(0, 1, 1), read(2, 3, 1), write(4, 5, 2), read(6, 7, 2))
        self.good(write(0, 9, 1), read(1, 2, None), read(3, 4, 1), write(3, 8, 2), read(5, 6, 2), read(8.5, 9, 2))
        self.good(write(0, 5, 1), write(0, 5, 2), read(6, 7, 1))

    def test_finds_stale_read(self):
        self.bad(write(0, 1, 1), write(2, 3, 2), read(4, 5, 1))
        self.bad(write(0, 1, 1), read(2, 3, None))

    def test_finds_lost_write(self):
        self.bad(write(0, 1, 1), write(2, 3, 2), read(4, 5, 2), read(6, 7, 1))

    def test_finds_reads_that_go_back_while_the_write_is_under_way(self):
        self.bad(write(0, 1, 1), write(2, 9, 2), read(3, 4, 2), read(5, 6, 1))

    def test_finds_read_of_nothing_written_or_of_the_future(self):
        self.bad(read(0, 1, 7))
        self.bad(read(0, 1, 7), write(2, 3, 7))

    def test_write_of_unknown_fate_may_come_late_or_never(self):
        self.good(write(0, 1, 1), write(2, INFINITY, 2), read(3, 4, 1), read(5, 6, 2))
        self.good(write(0, 1, 1), write(2, INFINITY, 2), read(3, 4, 1))

    def test_write_of_unknown_fate_takes_effect_once(self):
        self.bad(write(0, 1, 1), write(2, INFINITY, 2), read(3, 4, 2), write(5, 6, 3), read(7, 8, 2))

    def test_finds_two_cas_of_one_value(self):
        self.good(write(0, 1, 1), cas(2, 3, 1, 2), cas(4, 5, 2, 3), read(6, 7, 3))
        self.bad(write(0, 1, 1), cas(2, 5, 1, 2), cas(2, 5, 1, 3))

    def test_chain_of_unknown_cas_may_have_had_no_effect(self):
        self.good(write(0, 1, 1), cas(2, INFINITY, 1, 2), cas(3, INFINITY, 2, 3), read(4, 5, 1))

    def test_agrees_with_histories_made_from_an_order(self):
        rng = random.Random(5)
        for _ in range(200):
            value, ops, clock = None, [], 0.0
            for i in range(40):
                clock += 1
                wide = lambda: (clock - rng.random() * 3, clock + rng.random() * 3)
                if rng.random() < 0.5:
                    value = i
                    start, end = wide()
                    ops.append(write(start, INFINITY if rng.random() < 0.2 else end, i))
                else:
                    ops.append(read(*wide(), value))
            self.assertEqual(checkers.register(ops), [])

    def test_gives_up_rather_than_running_for_ever(self):
        ops = [write(0, 100, i) for i in range(20)] + [read(101, 102, 3), read(103, 104, 4)]
        with self.assertRaises(checkers.Undecided):
            checkers.register(ops, states_max=1000)


def append(start, end, value):
    return Op("append", start, end, value)


class AppendedList(unittest.TestCase):
    base = [append(0, 1, "a"), append(2, 3, "b"), append(4, INFINITY, "c")]

    def test_accepts_good_ones(self):
        self.assertEqual(checkers.appended_list(self.base + [read(3.5, 5, ["a", "b"])], ["a", "b"]), [])
        self.assertEqual(checkers.appended_list(self.base + [read(3.5, 5, ["a", "b", "c"])], ["a", "b", "c"]), [])

    def finds(self, text, ops, final):
        self.assertIn(text, " ".join(checkers.appended_list(ops, final)))

    def test_finds_bad_ones(self):
        self.finds("lost", self.base, ["a"])
        self.finds("twice", self.base, ["a", "b", "a"])
        self.finds("stands before", self.base, ["b", "a"])
        self.finds("nobody", self.base, ["a", "b", "x"])
        self.finds("stale", self.base + [read(3.5, 5, ["a"])], ["a", "b"])
        self.finds("stale", self.base + [read(5, 6, ["a", "b", "c"]), read(7, 8, ["a", "b"])], ["a", "b", "c"])
        self.finds("no beginning", self.base + [read(5, 6, ["b"])], ["a", "b"])
        self.finds("before it was sent", self.base + [read(3.1, 3.9, ["a", "b", "c"])], ["a", "b", "c"])


class Others(unittest.TestCase):
    def test_counter(self):
        self.assertEqual(checkers.counter(3, [1, 2, 3], {1, 2}, {3, 4}), [])
        for n, stored in ((2, [1]), (3, [1, 2, 2]), (4, [1, 2, 3]), (1, [1]), (3, [1, 2, 9])):
            self.assertTrue(checkers.counter(n, stored, {1, 2}, {3, 4}), (n, stored))

    def test_bank(self):
        self.assertEqual(checkers.bank([("n1", [5, 5]), ("n2", [0, 10])], 10), [])
        self.assertEqual(len(checkers.bank([("n1", [5, 5]), ("n2", [5, 10])], 10)), 1)

    def test_chained_rows(self):
        first = checkers.link("", 1, "x")
        second = checkers.link(first, 2, "y")
        good = [(1, "", "x", first), (2, first, "y", second)]
        self.assertEqual(checkers.chained_rows(good, {first, second}), [])
        self.assertTrue(checkers.chained_rows(good[:1], {first, second}))
        self.assertTrue(checkers.chained_rows(good[1:], set()))
        self.assertTrue(checkers.chained_rows([good[0], (2, first, "z", second)], set()))
        self.assertTrue(checkers.chained_rows([good[0], good[1], (3, first, "y", checkers.link(first, 3, "y"))], set()))

    def test_loads(self):
        done = {1: Op("load", 0, 1), 2: Op("load", 5, 6)}
        inserts = {7: Op("insert", 2, 3), 8: Op("insert", 7, 8)}
        self.assertEqual(checkers.loads([(8, 2)], 2, done, inserts), [])
        self.assertTrue(checkers.loads([(7, 1), (8, 2)], 2, done, inserts))
        self.assertTrue(checkers.loads([], 2, done, inserts))
        self.assertTrue(checkers.loads([(8, 2), (8, 2)], 2, done, inserts))

    def test_availability(self):
        share, fair, gap, at = checkers.availability([0.05, 0.15, 0.95], 0, 1)
        self.assertAlmostEqual(share, 0.3)
        self.assertAlmostEqual(fair, 0.3)
        self.assertAlmostEqual(gap, 0.8)
        self.assertAlmostEqual(at, 0.15)
        self.assertAlmostEqual(checkers.availability([0.05, 0.15, 0.95], 0, 1, [(0.25, 0.85)])[1], 1.0)
        self.assertAlmostEqual(checkers.availability([], 0, 2)[2], 2)
        self.assertAlmostEqual(checkers.recovery([(0, 3), (1.5, 2)], 1), 1)
        self.assertIsNone(checkers.recovery([(0, 3)], 1))


if __name__ == "__main__":
    unittest.main()
