"""The servers of examples/why: with a thread, a fiber and a coroutine each they answer every client, every byte; and crosswise.

usage: test_why.py PROGRAMS COROUTINES plain|sanitized"""
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import unittest

from harness import Server, receive_all, receive_exactly

CLIENTS, REQUEST_BYTES, READY = 200, 64, b'!'
WORKERS = [{'SLEY_WORKERS': '1'}, {'SLEY_WORKERS': '2'}, {'SLEY_WORKERS': '4'}, {'SLEY_WORKERS': '4', 'SLEY_CHAOS': 'migrate'}]
FUTEX = {'x86_64': 202, 'aarch64': 98}


def program(name):
    return os.path.join(PROGRAMS, name)


def servers():
    """(command, arguments after PORT CLIENTS, environment)"""
    yield [program('threads')], [], {}
    yield [program('threads')], ['128'], {}
    for workers in WORKERS:
        yield [program('fibers')], [], workers
    yield [sys.executable, COROUTINES], [], {}


def run_clients(port, clients=CLIENTS, **more):
    return subprocess.run([program('clients'), str(port), str(clients)], stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)


def request(number):
    return bytes((number * 37 + i) % 256 for i in range(REQUEST_BYTES))


class Servers(unittest.TestCase):
    def each(self, clients):
        for command, more, environment in servers():
            with self.subTest(command=command, more=more, environment=environment):
                yield Server(*command, '0', str(clients), *more, env=dict(os.environ, **environment))

    def test_every_client_waits_and_is_answered(self):
        for server in self.each(CLIENTS):
            done = run_clients(server.port)
            self.assertEqual((done.returncode, done.stderr), (0, ''))
            lines = [re.sub(r'after [\d.]+ ms', 'after T ms', line) for line in done.stdout.splitlines()]
            self.assertEqual(lines, [f'{CLIENTS} clients wait, 0 refused, after T ms; press Enter',
                                     f'{CLIENTS} answers, after T ms; press Enter'])
            self.assertEqual(server.wait(), (0, f'{CLIENTS} clients served, {CLIENTS} requests answered\n'))

    def test_a_client_may_ask_again_in_pieces_or_leave(self):
        for server in self.each(4):
            asks, pieces, leaves, resets = clients = [server.connect() for _ in range(4)]
            for client in clients:
                self.assertEqual(receive_exactly(client, 1), READY)
            for i in range(3):
                asks.sendall(request(i))
                self.assertEqual(receive_exactly(asks, REQUEST_BYTES), request(i))
            for i in range(REQUEST_BYTES):
                pieces.sendall(request(3)[i:i + 1])
            self.assertEqual(receive_exactly(pieces, REQUEST_BYTES), request(3))
            leaves.sendall(request(4)[:10])
            leaves.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(leaves), b'')
            resets.sendall(request(5)[:10])
            resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            for client in clients:
                client.close()
            self.assertEqual(server.wait(), (0, '4 clients served, 4 requests answered\n'))

    def test_too_few_descriptors_are_an_error_that_says_what_to_do(self):
        def few():
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        for command in ([program('threads'), '0'], [program('fibers'), '0'], [program('clients'), '1'], [sys.executable, COROUTINES, '0']):
            with self.subTest(command=command):
                done = subprocess.run([*command, str(CLIENTS)], preexec_fn=few, capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stdout), (1, ''))
                self.assertIn('need 264 descriptors in this process, and its hard limit is 100', done.stderr)
                self.assertIn('ulimit -Hn 264', done.stderr)

    def test_no_more_threads_is_said_and_those_there_are_answered(self):
        if SANITIZED:
            self.skipTest('a sanitizer needs address space without a limit')

        def little():
            resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
        server = Server(program('threads'), '0', str(CLIENTS), '8192', preexec_fn=little)
        done = run_clients(server.port)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        waiting, refused = map(int, re.match(r'(\d+) clients wait, (\d+) refused', done.stdout).groups())
        self.assertEqual(waiting + refused, CLIENTS)
        self.assertTrue(0 < waiting < 50, waiting)
        self.assertIn(f'\n{waiting} answers', done.stdout)
        self.assertEqual(server.wait(), (0, f'{waiting} clients are served, the next is refused: {os.strerror(11)}\n'
                                            f'{waiting} clients served, {waiting} requests answered\n'))


class Clients(unittest.TestCase):
    """What the clients must not take for an answer."""
    def against(self, greeting, answer):
        with socket.create_server(('127.0.0.1', 0)) as listener:
            with subprocess.Popen([program('clients'), str(listener.getsockname()[1]), '1'], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                with listener.accept()[0] as client:
                    client.sendall(greeting)
                    if answer is not None:
                        client.sendall(answer(receive_exactly(client, REQUEST_BYTES)))
                errors = process.communicate()[1]
        return process.returncode, errors

    def test_the_request_is_the_answer(self):
        self.assertEqual(self.against(READY, bytes), (0, ''))

    def test_one_other_bit_is_another_answer(self):
        self.assertEqual(self.against(READY, lambda got: got[:-1] + bytes([got[-1] ^ 1])), (1, 'another answer than the request\n'))

    def test_a_part_of_an_answer_is_none(self):
        status, errors = self.against(READY, lambda got: got[:-1])
        self.assertEqual(status, 1)
        self.assertIn('the server hung up on a client that waits for its answer', errors)

    def test_another_greeting_is_an_error(self):
        self.assertEqual(self.against(b'?', None), (1, 'the server began with another byte than READY\n'))


class Crosswise(unittest.TestCase):
    def test_the_dump_names_both_fibers_and_a_deadline_ends_it(self):
        for workers in WORKERS:
            with self.subTest(workers=workers):
                done = subprocess.run([program('crosswise')], env=dict(os.environ, **workers), capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                first, *waits, one, other = done.stdout.splitlines()
                left, right = re.fullmatch(r'left is (0x[0-9a-f]+), right is (0x[0-9a-f]+)', first).groups()
                pattern = r'fiber \d+ "(.*)" scope 0x[0-9a-f]+ waits: mutex (0x[0-9a-f]+), \d+ ms'
                self.assertEqual(sorted(re.fullmatch(pattern, line).groups() for line in waits),
                                 [('left, then right', right), ('right, then left', left)])
                gave_up, got = 'out of time, gave back what it held', 'got both'
                results = one.removeprefix('"left, then right": '), other.removeprefix('"right, then left": ')
                # Which of them is first is a matter of time; that one gives up is not, nor that the other can then go on.
                self.assertIn(results, [(gave_up, got), (got, gave_up), (gave_up, gave_up)])

    def test_threads_hang_in_silence(self):
        if SANITIZED or os.uname().machine not in FUTEX:
            self.skipTest('a sanitizer has threads of its own, other processors other numbers')
        with subprocess.Popen([program('crosswise'), 'threads'], stdout=subprocess.PIPE, text=True) as process:
            try:
                self.assertEqual(process.stdout.readline(), 'each holds one and locks the other\n')
                tasks = f'/proc/{process.pid}/task'
                while not all(self.is_stuck(f'{tasks}/{task}/syscall') for task in os.listdir(tasks)):
                    self.assertIsNone(process.poll())
            finally:
                process.send_signal(signal.SIGTERM)
            self.assertEqual((process.stdout.read(), process.wait()), ('', -signal.SIGTERM))

    def is_stuck(self, path):
        """Does the thread wait for a futex without a limit of time? If all of a process do, nobody is left to wake them."""
        try:
            with open(path) as f:
                words = f.read().split()
        except PermissionError:
            self.skipTest('this kernel does not tell what a thread waits for')
        return len(words) > 4 and int(words[0]) == FUTEX[os.uname().machine] and int(words[4], 16) == 0


if __name__ == '__main__':
    PROGRAMS, COROUTINES, SANITIZED = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1) == 'sanitized'
    unittest.main(verbosity=2)
