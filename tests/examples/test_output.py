"""A program's output is the expected one: test_output.py PROGRAM [ARGUMENT...] -- LINE...; lines in any order."""
import os
import shlex
import subprocess
import sys

split = sys.argv.index('--')
wrapper = shlex.split(os.environ.get('MESON_EXE_WRAPPER', '')) # of a build for another processor
done = subprocess.run(wrapper + sys.argv[1:split], stdout=subprocess.PIPE, text=True)
got, want = sorted(done.stdout.splitlines()), sorted(sys.argv[split + 1:])
if done.returncode != 0 or got != want:
    sys.exit('exit status %d, output %r instead of %r' % (done.returncode, got, want))
