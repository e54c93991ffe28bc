"""The programs beside this file, as a user would write them, do what their authors expect: test_programs.py DIRECTORY-OF-THE-BUILT-ONES.

A line of output may come before or after another where fibers run at once: then the lines are compared sorted."""
import fcntl
import http.client
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

BUILT = pathlib.Path(sys.argv.pop(1))
LEAF = '%d.%d ends: cancelled'


def run(name, text=None):
    done = subprocess.run([BUILT / name], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise AssertionError('%s: exit status %d, %s' % (name, done.returncode, done.stderr))
    return done.stdout.splitlines()


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Programs(unittest.TestCase):
    def test_01_hello(self):
        self.assertEqual(sorted(run('01_hello')), ['hello from one', 'hello from three', 'hello from two'])

    def test_02_ping_pong(self):
        self.assertEqual(run('02_ping_pong'), ['ping 1', '    pong 2', 'ping 3', '    pong 4', 'ping 5', '    pong 6'])

    def test_03_worker_pool(self):
        self.assertEqual(run('03_worker_pool'), ['total %d' % sum(n * 1000 * (n * 1000 + 1) // 2 for n in range(1, 21))])

    def test_04_timeout(self):
        self.assertEqual(run('04_timeout'), ['fast: 0, answer 42', 'slow: timed out'])

    def test_05_cancel_tree(self):
        lines = run('05_cancel_tree')
        self.assertEqual(lines[0], '1.2 ends: failed')
        self.assertEqual(sorted(lines[1:-1]), sorted(LEAF % (d, n) for d in range(3) for n in range(3) if (d, n) != (1, 2)))
        self.assertEqual(lines[-1], 'all have ended; first error: EIO')

    def test_06_echo_server(self):
        port = free_port()
        server = subprocess.Popen([BUILT / '06_echo_server', '127.0.0.1:%d' % port], stdout=subprocess.PIPE, text=True)
        while True:  # until it listens
            try:
                client = socket.create_connection(('127.0.0.1', port))
                break
            except ConnectionRefusedError:
                self.assertIsNone(server.poll())
        with client:
            for size in (1, 4096, 100000):
                message = bytes(i % 251 for i in range(size))
                client.sendall(message)
                back = b''
                while len(back) < size:
                    back += client.recv(size)
                self.assertEqual(back, message)
        server.send_signal(signal.SIGINT)
        self.assertEqual(server.communicate()[0], 'drained\n')
        self.assertEqual(server.returncode, 0)

    def test_07_http_files(self):
        with tempfile.TemporaryDirectory() as root, open(BUILT / 'port_8080.lock', 'w') as lock:  # the port is in the program
            fcntl.flock(lock, fcntl.LOCK_EX)
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(('127.0.0.1', 8080))
                except OSError:
                    self.skipTest('port 8080 is taken')
            content = bytes(i * i % 251 for i in range(300000))
            pathlib.Path(root, 'large').write_bytes(content)
            pathlib.Path(root, 'small').write_bytes(b'hello')
            pathlib.Path(root, 'folder').mkdir()
            server = subprocess.Popen([BUILT / '07_http_files', root])
            client = http.client.HTTPConnection('127.0.0.1', 8080)
            while True:  # until it listens
                try:
                    client.connect()
                    break
                except ConnectionRefusedError:
                    self.assertIsNone(server.poll())
            for path, status, body in (('/small', 200, b'hello'), ('/large', 200, content), ('/none', 404, b''), ('/folder', 403, b''),
                                       ('/a/../small', 400, b''), ('/small', 200, b'hello')):
                client.request('GET', path)
                answer = client.getresponse()
                self.assertEqual((answer.status, answer.read()), (status, body), path)
            client.close()
            with socket.create_connection(('127.0.0.1', 8080)) as s:  # many requests at once, and half of one
                s.sendall(b'GET /small HTTP/1.1\r\nHost: x\r\n\r\n' * 200 + b'GET /sma')
                s.shutdown(socket.SHUT_WR)
                with s.makefile('rb') as answers:
                    got = answers.read()
            self.assertEqual(got.count(b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'), 200)
            server.send_signal(signal.SIGINT)
            self.assertEqual(server.wait(), 0)

    def test_08_fan_in(self):
        self.assertEqual(run('08_fan_in'), ['sum %d' % (sum(range(100, 108)) + sum(range(200, 204)))])

    def test_09_threads_and_fibers(self):
        self.assertEqual(run('09_threads_and_fibers'), ['sum %d' % sum(2 * n for n in range(2000))])

    def test_13_embedded(self):
        closed = free_port()
        with socket.create_server(('127.0.0.1', 0)) as s:
            up = '127.0.0.1:%d' % s.getsockname()[1]
            down = '127.0.0.1:%d' % closed
            program = subprocess.Popen([BUILT / '13_embedded'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            for host, state in ((up, 'up'), (down, 'Connection refused'), ('no address', 'Invalid argument')):
                program.stdin.write(host + '\n')  # the program is asked one after the other, so that the answers' order is known
                program.stdin.flush()
            program.stdin.close()
            program.wait()
            lines = program.stdout.read().splitlines()
            program.stdout.close()
        self.assertEqual(program.returncode, 0)
        # What is still under way when its input ends may be left unsaid.
        self.assertTrue(set(lines) <= {up + ': up', down + ': Connection refused', 'no address: Invalid argument'}, lines)

    def test_13_embedded_answers_while_it_waits_for_input(self):
        with socket.create_server(('127.0.0.1', 0)) as s:
            up = '127.0.0.1:%d' % s.getsockname()[1]
            program = subprocess.Popen(['stdbuf', '-oL', BUILT / '13_embedded'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(3):
                program.stdin.write(up + '\n')
                program.stdin.flush()
                self.assertEqual(program.stdout.readline(), up + ': up\n')
            program.stdin.close()
            self.assertEqual(program.wait(), 0)
            program.stdout.close()

    def test_10_generators(self):
        self.assertEqual(run('10_generators'), ['0 1 1 2 3 5 8 13 21 34 55 89 ', '1 2 3 5 7 11 '])

    def test_11_lines(self):
        text = pathlib.Path(__file__).read_text()
        done = subprocess.run([BUILT / '11_lines', __file__], stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual(done.stdout, ''.join('%6d  %s' % line for line in enumerate(text.splitlines(keepends=True), 1)))

    def test_14_tasks(self):
        self.assertEqual(run('14_tasks'),
                         ['0: 1 4', '0: the third: EDOM', 'four: 16', 'forever cancelled', 'callback: cancelled', 'timeout'])

    def test_15_send_ok(self):
        rounds = [line % n for n in range(1, 6) for line in ('producer %d', 'consumer %d', 'consumer return OK%.0s')]
        self.assertEqual(run('15_send_ok'), rounds + ['StopIteration', "can't send non-None value to a just-started generator"])


unittest.main(verbosity=2)
