#!/usr/bin/env python3
"""The documentation: every C program and fragment in it compiles, every local link leads somewhere, the pages show the same program.

usage: test_docs.py SOURCE_DIR CC [WORD...]"""
import html
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(sys.argv[1])
cc = sys.argv[2:]
pages = [root / 'README.md', root / 'CHANGELOG.md', *sorted((root / 'docs').rglob('*.md'))]
failures = []
programs = 0

for page in pages:
    text = page.read_text()
    for program in re.findall(r'^```c\n(.*?)^```$', text, re.M | re.S):
        programs += 1
        result = subprocess.run([*cc, '-std=c11', '-fsyntax-only', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter',
                                 '-I', root / 'include', '-x', 'c', '-'], input=program, text=True, capture_output=True)
        if result.returncode != 0:
            failures.append(f'{page.name}: {result.stderr}')
    for target in re.findall(r'\]\(([^)#]+)[^)]*\)', text):
        if '://' not in target and not (page.parent / target).exists():
            failures.append(f'{page.name}: a link to {target}, which does not exist')

index = (root / 'docs/index.html').read_text()
for target in re.findall(r'(?:href|src)="([^"#]+)"', index):
    if not (root / 'docs' / target).exists():
        failures.append(f'index.html: a link to {target}, which does not exist')

# The front page shows the program of the README, less its comments.
echo = re.search(r'^```c\n(.*?)^```$', (root / 'README.md').read_text(), re.M | re.S)[1]
shown = html.unescape(re.search(r'<pre><code>(#include.*?)</code></pre>', index, re.S)[1])
if re.sub(r' */\*.*?\*/', '', echo).strip() != shown.strip():
    failures.append('index.html shows another program than README.md')

assert programs >= 3, programs
print('\n'.join(failures))
sys.exit(bool(failures))
