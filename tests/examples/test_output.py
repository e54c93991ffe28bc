"""A program's output is the expected one: test_output.py PROGRAM [ARGUMENT...] -- LINE...; lines in any order."""
import subprocess
import sys

split = sys.argv.index('--')
done = subprocess.run(sys.argv[1:split], stdout=subprocess.PIPE, text=True)
got, want = sorted(done.stdout.splitlines()), sorted(sys.argv[split + 1:])
if done.returncode != 0 or got != want:
    sys.exit('exit status %d, output %r instead of %r' % (done.returncode, got, want))
