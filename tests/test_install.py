#!/usr/bin/env python3
"""The installed tree, as a user meets it: pkg-config, headers, both libraries, the exported names.

usage: test_install.py BUILD_DIR VERSION HAVE_JEMALLOC CC [WORD...]"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

build, version, have_jemalloc, *cc = sys.argv[1:]

HELLO = r'''
#include <sley.h>
#include <stdio.h>

static int hello(void *arg)
{
    return printf("%s %s\n", (const char *)arg, sley_version_string()) > 0 ? 0 : -1;
}

int main(void)
{
    return sley_run(NULL, hello, "hello from") != 0;
}
'''


def out(*command, env=None):
    """What a command prints; its failure is the test's."""
    result = subprocess.run(command, env=env, text=True, capture_output=True)
    assert result.returncode == 0, f'{" ".join(map(str, command))}\n{result.stdout}{result.stderr}'
    return result.stdout


def declared(include):
    """The names of all functions that a public header marks SLEY_API."""
    names = set()
    for header in include.rglob('*.h'):
        text = re.sub(r'/\*[\s\S]*?\*/|^#.*', '', header.read_text(), flags=re.M)
        names.update(re.findall(r'SLEY_API\b[^;{]*?\b(sley_\w+)\s*\(', text))
    return names


with tempfile.TemporaryDirectory() as scratch:
    root = pathlib.Path(scratch) / 'root'
    out('meson', 'install', '-C', build, '--no-rebuild', '--quiet', '--destdir', root)
    (pc,) = root.rglob('sley.pc')
    library = pc.parent.parent
    (umbrella,) = root.rglob('sley.h')
    env = dict(os.environ, PKG_CONFIG_LIBDIR=out('pkg-config', '--variable', 'pc_path', 'pkg-config').strip(),
               PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(root), PKG_CONFIG_ALLOW_SYSTEM_CFLAGS='')

    # --- the shared library: soname, names, needs
    shared = (library / f'libsley.so.{version}').resolve()
    dynamic = out('readelf', '-dW', shared)
    soname = f'libsley.so.{version.split(".")[0]}'
    assert f'Library soname: [{soname}]' in dynamic, dynamic
    assert (library / soname).resolve() == shared and (library / 'libsley.so').resolve() == shared
    assert 'liburing' in dynamic and 'jemalloc' not in dynamic, dynamic

    symbols = [line.split()[-1] for line in out('nm', '-D', '--defined-only', shared).splitlines() if ' A ' not in line]
    exported = {name.split('@')[0] for name in symbols}
    exported.remove('sley_thread_here')  # no function; read by the assembly in gen_inline.h
    assert exported == declared(umbrella.parent), sorted(exported ^ declared(umbrella.parent))
    assert all(re.search(r'@@?SLEY_\d+\.\d+$', name) for name in symbols), symbols

    # --- a program on each way to link
    source = pathlib.Path(scratch) / 'hello.c'
    source.write_text(HELLO)

    def hello(name, *flags, needs=(), needs_not=()):
        program = source.with_name(name)
        out(*cc, '-std=c11', '-Wall', '-Wextra', '-Werror', '-o', program, source, *flags)
        said = out(program, env=dict(os.environ, LD_LIBRARY_PATH=str(library)))
        assert said.startswith(f'hello from {version}'), said
        needed = set(re.findall(r'NEEDED.*\[(\w+)\.so', out('readelf', '-dW', program)))
        assert needed >= set(needs) and not needed & set(needs_not), (name, needed)

    def flags(*arguments):
        return out('pkg-config', '--cflags', '--libs', *arguments, env=env).split()

    assert out('pkg-config', '--modversion', 'sley', env=env).strip() == version
    hello('shared', *flags('sley'), needs=['libsley'], needs_not=['libjemalloc'])
    hello('static', '-static', *flags('--static', 'sley'), needs_not=['libsley', 'libc'])
    if have_jemalloc == 'yes': # though hello itself allocates nothing
        hello('jemalloc', *flags('sley-jemalloc'), needs=['libsley', 'libjemalloc'])
