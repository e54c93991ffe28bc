#!/usr/bin/env python3
"""The rules of the tree that no compiler knows. Run by ./dev lint; prints file:line: rule, exits 1 if there is any."""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ['base', 'plat', 'ctx', 'event', 'sched', 'io', 'sync', 'chan', 'task', 'obs'] # a room includes only rooms before it, and itself
MUTUAL = ('base', 'plat')  # the spinlock needs the machine's pause, the machine needs atomics
COLUMNS = 140

# Not in the code of the library, outside the rooms and files named.
FORBIDDEN = [
    (r'\b(_Thread_local|__thread)\b', ['plat', 'sched/thread.c'], 'there is one thread-local pointer, in sched/thread.c'),
    (r'\b(__atomic_\w+|__sync_\w+|atomic_(?!uint|int)\w+)\s*\(|<stdatomic\.h>', ['base', 'plat'], 'atomics go through base/atomic.h'),
    (r'\b(clock_gettime|sched_yield|nanosleep|usleep)\s*\(', ['plat'], 'the machine is reached through plat'),
]
ERRNO = r'\berrno\b(?!\.h)', 'errno in a file that parks: afterwards it is another thread\'s'

problems = []


def problem(path, line, text):
    problems.append(f'{path.relative_to(ROOT)}:{line}: {text}')


def without_comments_and_strings(text):
    """The same text, line for line, with comments and the insides of strings blanked."""
    def blank(match):
        return re.sub(r'[^\n]', ' ', match[0])
    return re.sub(r'/\*[\s\S]*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'',
                  lambda m: m[0] if m[0].startswith('"') and text[:m.start()].rpartition('\n')[2].strip() == '#include' else blank(m), text)


def check_text(path, text):
    for number, line in enumerate(text.splitlines(), start=1):
        if line != line.rstrip():
            problem(path, number, 'white space at the end')
        if '\t' in line and path.suffix != '.go':
            problem(path, number, 'a tab')
        if len(line) > COLUMNS and path.suffix not in ('.html', '.md') and not path.is_relative_to(ROOT / 'include'):
            problem(path, number, f'more than {COLUMNS} columns')
    if text and not text.endswith('\n'):
        problem(path, text.count('\n') + 1, 'no newline at the end')


def check_room(path, text):
    room = path.parent.name
    code = without_comments_and_strings(text)
    parks = '#include "sched/park.h"' in text
    if not text.startswith(f'/* {path.name} - '):
        problem(path, 1, f'does not begin with "/* {path.name} - what it is"')
    if path.suffix == '.c' and f"'{path.name}'" not in (path.parent / 'meson.build').read_text():
        problem(path, 1, f'missing in src/{room}/meson.build')
    for number, line in enumerate(code.splitlines(), start=1):
        included = re.match(r'#include "(\w+)/', line)
        if included and included[1] in ROOMS and ROOMS.index(included[1]) > ROOMS.index(room) and (room, included[1]) != MUTUAL:
            problem(path, number, f'{room} includes {included[1]}, a room after it')
        for pattern, allowed, why in FORBIDDEN:
            if room not in allowed and f'{room}/{path.name}' not in allowed and re.search(pattern, line):
                problem(path, number, why)
        if parks and re.search(ERRNO[0], line):
            problem(path, number, ERRNO[1])


def check_order_tags(sources):
    """A tag of an ordered access stands at its partner too, and in the index."""
    places = collections.defaultdict(list)
    for path, text in sources:
        for number, line in enumerate(text.splitlines(), start=1):
            for tag in re.findall(r'\[([a-z_]+\.\d+)\]', line):
                places[tag].append((path, number))
    index = ROOT / 'src/README.md'
    indexed = set(re.findall(r'\b([a-z_]+\.\d+)\b', index.read_text())) if index.exists() else set()
    for tag, where in sorted(places.items()):
        if len(where) < 2:
            problem(*where[0], f'order tag [{tag}] has no partner')
        if index.exists() and tag not in indexed:
            problem(*where[0], f'order tag [{tag}] is not in src/README.md')


files = sorted(p for d in ('src', 'include', 'tests', 'tools', 'examples', 'bench', 'docs') for p in (ROOT / d).rglob('*')
               if p.suffix in ('.c', '.h', '.S', '.py', '.go', '.cpp', '.md', '.html', '.css', '.map', '.build', '.sh'))
texts = [(p, p.read_text()) for p in files]

for path, text in texts:
    check_text(path, text)
    if path.parent.parent == ROOT / 'src' and path.suffix in ('.c', '.h'):
        check_room(path, text)
    if path.parent == ROOT / 'tests' and path.suffix == '.c':
        for number, line in enumerate(without_comments_and_strings(text).splitlines(), start=1):
            if re.search(r'\b(usleep|nanosleep|sleep)\s*\(', line):
                problem(path, number, 'a test sleeps: wait for what must happen instead')
check_order_tags([(p, t) for p, t in texts if p.is_relative_to(ROOT / 'src') and p.suffix in ('.c', '.h', '.S')])

for line in problems:
    print(line)
sys.exit(bool(problems))
