#!/usr/bin/env python3
"""Each public header compiles alone, twice in a row, as C11, C17 and C++17, without a warning.

usage: test_headers.py INCLUDE_DIR CC [WORD...] [-- CXX [WORD...]]"""
import pathlib
import subprocess
import sys

include = pathlib.Path(sys.argv[1])
words = sys.argv[2:]
cc, cxx = (words[:words.index('--')], words[words.index('--') + 1:]) if '--' in words else (words, None)
compilers = [(cc, 'c', 'c11'), (cc, 'c', 'c17')] + ([(cxx, 'c++', 'c++17')] if cxx else [])
headers = sorted(h.relative_to(include) for h in include.rglob('*.h'))

assert len(headers) > 10, f'no headers under {include}'
print(f'1..{len(headers) * len(compilers)}')
failed = False
for number, (header, (compiler, language, standard)) in enumerate(
        ((h, c) for h in headers for c in compilers), start=1):
    result = subprocess.run(
        [*compiler, '-x', language, f'-std={standard}', '-fsyntax-only', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-I', include, '-'],
        input=f'#include <{header}>\n#include <{header}>\nint main(void) {{ return 0; }}\n', text=True, capture_output=True)
    good = result.returncode == 0
    failed |= not good
    print(f'{"ok" if good else "not ok"} {number} - {header} as {standard}')
    if not good:
        print('\n'.join('# ' + line for line in result.stderr.splitlines()))
sys.exit(failed)
