#!/usr/bin/env python3
"""What `./dev doctor` prints: every feature of the library's table, with what was found; and that no list of features has been forgotten.

usage: test_doctor.py DOCTOR SOURCE_DIR"""
import os
import pathlib
import re
import subprocess
import sys
import unittest

DOCTOR = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(sys.argv[2])
del sys.argv[1:]

SOURCE = (ROOT / 'src/plat/feature.c').read_text()
# As a reader of the source finds them: the name is the first string of its row.
FEATURES = re.findall(r'\[SL_FEATURE_\w+\] = (?:\{ |OPERATION\()"(\w+)"', SOURCE)


def doctor(**variables):
    """Exit status, standard output, standard error."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith('SLEY_')}
    done = subprocess.run([DOCTOR], env={**clean, 'SLEY_WORKERS': '2', **variables}, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def rows(output):
    """The table of features: name -> (state, Linux, good for)."""
    lines = output.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith('feature '))
    columns = [lines[begin].index(word) for word in ('state', 'Linux', 'good for')] + [None]
    table = {}
    for line in lines[begin + 1:lines.index('', begin)]:
        cells = [line[a:b].strip() for a, b in zip(columns, columns[1:])]
        table[line[:columns[0]].strip()] = tuple(cells)
    return table


class Doctor(unittest.TestCase):
    def test_every_feature_has_a_row_with_a_state_a_version_and_a_use(self):
        status, output, errors = doctor()
        self.assertEqual((status, errors), (0, ''))
        table = rows(output)
        self.assertEqual(list(table), FEATURES)
        for name, (state, since, use) in table.items():
            self.assertRegex(state, r'^(used|not tried|missing, E[A-Z0-9]+)$', name)
            self.assertRegex(since, r'^\d+\.\d+$', name)
            self.assertGreater(len(use), 5, name)

    def test_nothing_is_left_untried_where_io_uring_works(self):
        table = rows(doctor()[1])
        if table['io_uring'][0] != 'used':
            self.skipTest('no io_uring here')
        self.assertEqual([name for name, row in table.items() if row[0] == 'not tried'], [])

    def test_what_is_missing_or_disabled_says_what_to_change(self):
        _, output, _ = doctor()
        missing = [name for name, row in rows(output).items() if row[0].startswith('missing')]
        changes = output.partition('\nto change\n')[2]
        for name in missing:
            self.assertRegex(changes, rf'(?m)^{name} +Linux \d+\.\d+ or newer')
        self.assertEqual(not missing, 'nothing to change' in output)

    def test_each_feature_can_be_switched_off_and_shows_as_disabled(self):
        for name in FEATURES:
            with self.subTest(name):
                status, output, errors = doctor(SLEY_DISABLE=name)
                self.assertEqual((status, errors), (0, ''))
                self.assertEqual([n for n, row in rows(output).items() if row[0] == 'disabled'], [name])
                self.assertRegex(output, rf'(?m)^{name} +take it out of SLEY_DISABLE')

    def test_all_features_can_be_switched_off_at_once(self):
        status, output, errors = doctor(SLEY_DISABLE=','.join(FEATURES))
        self.assertEqual((status, errors), (0, ''))
        self.assertEqual({row[0] for row in rows(output).values()}, {'disabled'})

    def test_the_backend_says_why_it_is_not_io_uring(self):
        _, output, _ = doctor(SLEY_BACKEND='epoll')
        self.assertRegex(output, r'(?m)^backend +epoll: as SLEY_BACKEND')
        self.assertRegex(output, r'(?m)^not io_uring +SLEY_BACKEND=epoll says so')
        _, output, _ = doctor(SLEY_DISABLE='io_uring')
        self.assertRegex(output, r'(?m)^not io_uring +io_uring switched off \(SLEY_DISABLE\)')

    def test_a_runtime_that_cannot_start_is_a_failure(self):
        status, output, errors = doctor(SLEY_BACKEND='uring', SLEY_DISABLE='io_uring')
        self.assertEqual(status, 1)
        self.assertRegex(output, r'(?m)^backend +none')
        self.assertIn('SLEY_DISABLE', errors)
        status, _, errors = doctor(SLEY_DISABLE='warp_drive')
        self.assertEqual((status, errors.count('\n')), (1, 1))

    def test_the_limits_are_shown(self):
        _, output, _ = doctor()
        for name in ('io_uring_disabled', 'seccomp', 'RLIMIT_MEMLOCK', 'RLIMIT_NOFILE', 'vm.max_map_count', 'cgroup quota', 'workers'):
            self.assertRegex(output, rf'(?m)^{re.escape(name)} +\S')


class Lists(unittest.TestCase):
    def test_every_feature_has_its_runs_of_the_suite_disable(self):
        listed = (ROOT / 'tests/meson.build').read_text().partition('\ndisabled = {\n')[2].partition('\n}\n')[0]
        self.assertEqual(sorted(re.findall(r"^ +'(\w+)':", listed, re.M)), sorted(FEATURES))

    def test_every_operation_that_is_handed_over_is_one_that_the_ring_is_asked_for(self):
        ring = (ROOT / 'src/event/ring.c').read_text()
        handed = set()
        for path in (*(ROOT / 'src/io').glob('*.[ch]'), ROOT / 'src/sched/op.c'):
            handed |= set(re.findall(r'\bIORING_OP_\w+[A-Z0-9]\b', path.read_text()))
        self.assertGreater(len(handed), 10)
        self.assertEqual([code for code in sorted(handed) if not re.search(rf'\b{code}\b', ring)], [])


if __name__ == '__main__':
    unittest.main()
