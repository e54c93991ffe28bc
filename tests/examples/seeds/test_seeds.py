"""The seeds' programs print what their originals print: test_seeds.py DIRECTORY-OF-THE-BUILT-ONES [CLASS...].

programs/ holds the originals, expected/ what they print."""
import http.server
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BUILT = pathlib.Path(sys.argv.pop(1))
EXPECTED = {path.stem: path.read_bytes() for path in sorted((HERE / 'expected').iterdir())}
TOOK = re.compile(rb'took \d+\.\d\d seconds\n')
REFUSED = b'Connection refused'


def ours(name):
    return [str(BUILT / name)]


def original(name):
    return [sys.executable, '-X', 'utf8', str(HERE / 'programs' / (name + '.py'))]


def run(*command, **popen):
    """The exit status and every byte of both outputs."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        popen.setdefault('stdout', out)
        status = subprocess.run(command, stderr=err, **popen).returncode
        out.seek(0)
        err.seek(0)
        return status, out.read(), err.read()


class Programs(unittest.TestCase):
    def test_each_prints_what_python_prints(self):
        for name, text in EXPECTED.items():
            with self.subTest(name):
                self.assertEqual(run(*ours(name)), (0, text, b''))

    def test_on_workers_each_coroutine_keeps_its_order(self):
        status, text, errors = run(*ours('02b_on_workers'))
        self.assertEqual((status, errors), (0, b''))
        scheduled = [line for line in EXPECTED['02_coroutine_scheduler'].splitlines() if line[1:2] == b' ']
        for name in b'a', b'b', b'c':
            self.assertEqual([line for line in text.splitlines() if line[:1] == name], [line for line in scheduled if line[:1] == name])
        self.assertEqual(len(text.splitlines()), len(scheduled))

    def test_output_that_is_lost_is_an_error(self):
        for name in [*EXPECTED, '02b_on_workers']:
            with self.subTest(name), open('/dev/full', 'wb') as full:
                self.assertEqual(run(*ours(name), stdout=full)[0], 1)


class Originals(unittest.TestCase):
    def test_each_has_a_text_or_needs_a_server(self):
        self.assertEqual({path.stem for path in (HERE / 'programs').iterdir()}, {*EXPECTED, '11_fetch_two'})

    def test_python_prints_the_same_as_the_program_in_c(self):
        for name, text in EXPECTED.items():
            with self.subTest(name):
                status, theirs, _ = run(*original(name))
                self.assertEqual((status, theirs), (0, text))
                self.assertEqual(run(*ours(name))[1], theirs)


class AnswerTogether(http.server.BaseHTTPRequestHandler):
    """Neither request is answered before both are here: who asks one after the other waits for ever, and the test runner ends that."""
    both = threading.Barrier(2)

    def do_GET(self):
        AnswerTogether.both.wait()
        self.send_response(200 if self.path == '/foo' else 404)
        self.end_headers()
        self.wfile.write(self.path.encode() * 10000)

    def log_message(self, *_):
        pass


class TwoClients:
    """A listener whose next two connections are each given to `serve`, at once; its port."""
    def __init__(self, serve):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = str(self.listener.getsockname()[1])
        self.serve = serve
        for _ in range(2):
            threading.Thread(target=self._one, daemon=True).start()

    def _one(self):
        connection, peer = self.listener.accept()
        with connection:
            self.serve(connection, peer)

    def __enter__(self):
        return self.port

    def __exit__(self, *_):
        self.listener.close()


def read_request(connection):
    request = b''
    while b'\r\n\r\n' not in request:
        part = connection.recv(1000)
        if not part:
            return None
        request += part
    return request


class Fetches(unittest.TestCase):
    CLIENTS = [original('11_fetch_two'), ours('11_fetch_two'), ours('11b_fetch_two_fibers')]

    def fetch(self, client, port, first_lines):
        """The first lines come in any order, the time comes last."""
        status, text, errors = run(*client, port)
        self.assertEqual((status, errors), (0, b''), client)
        *lines, took = text.splitlines(keepends=True)
        self.assertEqual(sorted(lines), sorted(first_lines), client)
        self.assertRegex(took, TOOK)
        print(os.path.basename(client[-1]), took.decode(), end='', file=sys.stderr)

    def test_both_requests_are_open_at_the_same_time(self):
        for client in self.CLIENTS:
            with TwoClients(lambda connection, peer: AnswerTogether(connection, peer, None)) as port:
                self.fetch(client, port, [b'HTTP/1.0 200 OK\r\n', b'HTTP/1.0 404 Not Found\r\n'])

    def test_pythons_own_server_answers(self):
        with tempfile.TemporaryDirectory() as root:
            pathlib.Path(root, 'foo').write_text('here\n' * 100000)
            server = subprocess.Popen([sys.executable, '-u', '-m', 'http.server', '0', '--bind', '127.0.0.1', '--directory', root],
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            try:
                port = re.search(r' port (\d+) ', server.stdout.readline())[1]
                for client in self.CLIENTS:
                    self.fetch(client, port, [b'HTTP/1.0 200 OK\r\n', b'HTTP/1.0 404 File not found\r\n'])
            finally:
                server.terminate()
                server.communicate()

    def test_a_first_line_may_come_in_many_pieces(self):
        line = b'x' * 100000 + b'\n'

        def serve(connection, _):
            read_request(connection)
            connection.sendall(line + b'rest\n' * 100000)

        for client in self.CLIENTS:
            with TwoClients(serve) as port:
                self.fetch(client, port, [line, line])

    def test_an_empty_answer_is_an_empty_line(self):
        for client in self.CLIENTS:
            with TwoClients(lambda connection, _: read_request(connection)) as port:
                self.fetch(client, port, [b'\n', b'\n'])

    def test_a_refused_connection_is_an_error(self):
        with socket.socket() as bound: # and not listening
            bound.bind(('127.0.0.1', 0))
            for client in self.CLIENTS:
                status, text, errors = run(*client, str(bound.getsockname()[1]))
                self.assertEqual((status, text), (1, b''), client)
                self.assertIn(REFUSED, errors)

    def test_bad_arguments_are_refused(self):
        for client in self.CLIENTS[1:]:
            for args in [], ['0'], ['65536'], ['x'], ['1', '2']:
                self.assertEqual(run(*client, *args)[:2], (2, b''), (client, args))


unittest.main(verbosity=2)
