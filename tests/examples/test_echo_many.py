"""15,000 connections held at once by one echo server, or as many as RLIMIT_NOFILE lets be; each is answered, every byte is looked at, and
a connection costs the server no more than a page and what belongs to it."""
import resource
import subprocess
import sys
import unittest

from harness import Server

CONNECTIONS = 15000
SPARE = 100  # descriptors that are no connections
BYTES = 5120


class Many(unittest.TestCase):
    def test_each_of_them_is_answered(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard != resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        count = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard - SPARE)
        server = Server(PROGRAM, '127.0.0.1:0')
        done = subprocess.run([LOADGEN, str(server.port), str(count), '0.2', str(server.process.pid)], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        names, values = (line.split('\t') for line in done.stdout.splitlines())
        row = dict(zip(names, values))
        print('# ' + done.stdout.replace('\n', '\n# '))
        self.assertEqual(int(row['connections']), count)
        self.assertGreater(int(row['requests']), 0)
        self.assertLess(float(row['server_bytes']), BYTES)
        self.assertEqual(server.stop(), (0, 'drained\n'))


if __name__ == '__main__':
    PROGRAM, LOADGEN = sys.argv[1:3]
    del sys.argv[1:]
    unittest.main()
