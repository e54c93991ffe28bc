#!/usr/bin/env python3
"""The table of docs/cancellation.md: every exported call that waits has a row, every row's call exists, and every row of a call that is
exported names tests that there are; every row of the tests stands in the table.

usage: test_cancel_table.py SOURCE_DIR"""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
WITHOUT_DEADLINE = {'sley_yield', 'sley_sleep', 'sley_sleep_until', 'sley_close'}  # and yet they wait
failures = []

exported = set(re.findall(r'^    (sley_\w+);', (root / 'src/sley.map').read_text(), re.M))
waiting = set()
for header in sorted((root / 'include/sley').glob('*.h')):
    for name, parameters in re.findall(r'^SLEY_API (?:SLEY_MUST_USE )? *int(?:64_t)? +(sley_\w+)\(([^;]*?)\);', header.read_text(),
                                       re.M | re.S):
        if 'sley_time deadline' in parameters or name in WITHOUT_DEADLINE:
            waiting.add(name)

sources = {path.stem.removeprefix('test_'): path.read_text() for path in (root / 'tests').glob('test_*.c')}
there = {(test, row) for test in ('cancel', 'cancel_io') for row in re.findall(r'^    \{ "([^"]+)"', sources[test], re.M)}
shown = set()

calls = []
for line in (root / 'docs/cancellation.md').read_text().splitlines():
    if not line.startswith('| `sley_'):
        continue
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    call = cells[0].strip('`')
    calls.append(call)
    if len(cells) != 5:
        failures.append(f'{call}: {len(cells)} columns')
    for part in cells[-1].split('; '):
        test, _, names = part.partition(': ')
        test = test.strip('`')
        if test not in sources or not names:
            failures.append(f'{call}: no test is named')
            continue
        for name in names.split(', '):
            if (test, name) in there:
                shown.add((test, name))
            elif call in exported and not re.search(rf'^(static void |SCENARIO\(){re.escape(name)}\b', sources[test], re.M):
                failures.append(f'{call}: tests/test_{test}.c has no "{name}"')

failures += [f'{call}: twice in the table' for call in sorted(set(calls)) if calls.count(call) > 1]
failures += [f'{call}: in the table, but no header has it as a call that waits' for call in sorted(set(calls) - waiting)]
failures += [f'{call}: waits, is exported, and not in the table' for call in sorted((waiting & exported) - set(calls))]
failures += [f'tests/test_{test}.c: "{row}" is not in the table' for test, row in sorted(there - shown)]
print('\n'.join(failures))
sys.exit(bool(failures))
