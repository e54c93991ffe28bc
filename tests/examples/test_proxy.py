"""The proxy between real programs: curl, wrk and plain sockets on one side; nginx, Python's http.server and servers that misbehave on the
other. Every byte is compared, and each test ends with as many descriptors open as at its beginning. No test has a limit of time."""
import fcntl
import hashlib
import http.client
import http.server
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import unittest

from harness import Server, receive_all, receive_exactly
from nginx import Nginx
from page_server import reset

SIZES = [0, 1, 100, 1024, 16383, 16384, 16385, 65536, 100000, 1 << 20, 9 * 1024 * 1024 + 1]
MEGABYTES = 5 * 1024 * 1024 + 3


def content(size, seed=0):
    return random.Random(size * 1000 + seed).randbytes(size)


class Proxy(Server):
    def __init__(self, to, *options, listen='127.0.0.1:0'):
        self.errors = tempfile.TemporaryFile('w+')
        super().__init__(PROGRAM, '--listen', listen, '--to', to, *options, stderr=self.errors)
        self.base = 'http://%s:%d' % (self.host, self.port)

    def descriptors(self):
        return len(os.listdir('/proc/%d/fd' % self.process.pid))

    def complaints(self):
        self.errors.seek(0)
        return self.errors.read().splitlines()

    def wait_for_complaint(self, pattern):
        while not any(re.search(pattern, line) for line in self.complaints()):
            os.sched_yield()

    def wait_until_idle(self, descriptors):
        while self.descriptors() != descriptors:
            os.sched_yield()


class Case(unittest.TestCase):
    def proxy(self, to, *options, **kwargs):
        """One that has carried nothing yet; at the end of the test it must have no more open than now."""
        proxy = Proxy(to, *options, **kwargs)
        before = proxy.descriptors()
        self.addCleanup(self.finish, proxy, before)
        return proxy

    def finish(self, proxy, before):
        if proxy.process.poll() is None:
            proxy.wait_until_idle(before)
            status, output = proxy.stop(signal.SIGTERM)
            self.assertEqual(status, 0)
            self.assertRegex(output, r'^drained: \d+ connections, \d+ failed\n$')
        proxy.process.stdout.close()
        proxy.errors.close()

    def assert_quiet(self, proxy):
        self.assertEqual(proxy.complaints(), [])

    def listener(self, **kwargs):
        s = socket.create_server(('127.0.0.1', 0), **kwargs)
        self.addCleanup(s.close)
        return s

    def pair(self, *options):
        """A proxy, and both ends of one connection through it."""
        upstream = self.listener()
        proxy = self.proxy('127.0.0.1:%d' % upstream.getsockname()[1], *options)
        client = proxy.connect()
        server = upstream.accept()[0]
        self.addCleanup(client.close)
        self.addCleanup(server.close)
        return proxy, client, server


def curl(*arguments):
    command = ['curl', '--silent', '--show-error', '--fail', '--noproxy', '*', *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


class Files(Case):
    """The same files by each server of files."""

    def setUp(self):
        if shutil.which('curl') is None:
            self.skipTest('no curl')
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        os.chmod(self.root, 0o755)
        os.mkdir(self.root + '/site')
        for size in SIZES:
            with open(self.root + '/site/%d' % size, 'wb') as f:
                f.write(content(size))

    def get_all(self, proxy):
        """By one run of curl, on as few connections as the server keeps."""
        into = self.root + '/got'
        os.mkdir(into)
        curl('--output', into + '/#1', proxy.base + '/{%s}' % ','.join(map(str, SIZES)))
        for size in SIZES:
            with open(into + '/%d' % size, 'rb') as f:
                self.assertTrue(f.read() == content(size), size)

    def head_all(self, proxy):
        for size in SIZES:
            head = curl('--head', proxy.base + '/%d' % size).decode('latin-1')
            self.assertIn('\r\ncontent-length: %d\r\n' % size, head.lower())

    def abort(self, proxy, times):
        """Downloads that are broken off: by an end, and by a reset."""
        for i in range(times):
            s = proxy.connect(receive_bytes=4096)
            s.sendall(b'GET /%d HTTP/1.1\r\nHost: x\r\n\r\n' % SIZES[-1])
            receive_exactly(s, 1000 * (i % 3) + 1)
            if i % 2 == 0:
                reset(s)
            s.close()


class Nginxes(Files):
    def setUp(self):
        if not os.access(NGINX, os.X_OK):
            self.skipTest('no nginx: ./dev test fetches one')
        super().setUp()
        self.nginx = Nginx(NGINX, self.root, 'keepalive_requests 100000000;')
        self.nginx.start()
        self.stopped = False
        self.addCleanup(lambda: self.stopped or self.stop_nginx())
        self.through = self.proxy('127.0.0.1:%d' % self.nginx.port)

    def stop_nginx(self):
        self.assertEqual(self.nginx.stop(), (0, []))

    def test_every_file_arrives_byte_for_byte(self):
        self.get_all(self.through)
        self.head_all(self.through)
        self.assert_quiet(self.through)

    def test_ranges(self):
        data = content(SIZES[-1])
        for first, last in [(0, 0), (1, 99999), (16384, 16384 * 7 + 1), (len(data) - 70000, len(data) - 1)]:
            self.assertTrue(curl('--range', '%d-%d' % (first, last), self.through.base + '/%d' % len(data)) == data[first:last + 1])
        self.assert_quiet(self.through)

    def test_a_connection_that_is_kept_is_one_to_the_server(self):
        connection = http.client.HTTPConnection(self.through.host, self.through.port)
        for i in range(100):
            size = SIZES[i % 8]
            connection.request('HEAD' if i % 3 == 0 else 'GET', '/%d' % size)
            body = connection.getresponse().read()
            self.assertEqual(body, b'' if i % 3 == 0 else content(size))
        connection.close()
        self.assert_quiet(self.through)
        self.stop_nginx()
        self.stopped = True
        self.assertEqual(len(self.nginx.log()[2]), 1)

    def test_downloads_that_are_broken_off_leave_nothing(self):
        before = self.through.descriptors()
        self.abort(self.through, 40)
        self.through.wait_until_idle(before)
        self.get_all(self.through)

    def test_wrk_sees_no_error(self):
        if shutil.which('wrk') is None:
            self.skipTest('no wrk')
        done = subprocess.run(['wrk', '-t2', '-c64', '-d2s', self.through.base + '/1024'], stdout=subprocess.PIPE, text=True, check=True)
        self.assertGreater(int(re.search(r'(\d+) requests in', done.stdout).group(1)), 0)
        self.assertNotIn('Socket errors', done.stdout)
        self.assertNotIn('Non-2xx', done.stdout)


class PythonsServer(Files):
    def setUp(self):
        super().setUp()
        self.server = subprocess.Popen([sys.executable, '-u', '-m', 'http.server', '--bind', '127.0.0.1',
                                        '--directory', self.root + '/site', '0'], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)
        port = re.search(r'port (\d+)', self.server.stdout.readline()).group(1)
        self.addCleanup(self.stop_server)
        self.through = self.proxy('127.0.0.1:' + port)

    def stop_server(self):
        self.server.terminate()
        self.server.wait()
        self.server.stdout.close()

    def test_every_file_arrives_byte_for_byte(self):
        self.get_all(self.through)
        self.head_all(self.through)
        self.assert_quiet(self.through)

    def test_downloads_that_are_broken_off_leave_nothing(self):
        before = self.through.descriptors()
        self.abort(self.through, 20)
        self.through.wait_until_idle(before)
        self.get_all(self.through)


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def echo(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.send_header('X-Sum', hashlib.sha256(body).hexdigest())
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = echo

    def log_message(self, *_):
        pass


class Bodies(Case):
    def test_what_is_sent_comes_back(self):
        if shutil.which('curl') is None:
            self.skipTest('no curl')
        with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Echo) as upstream, tempfile.NamedTemporaryFile() as file:
            thread = threading.Thread(target=upstream.serve_forever)
            thread.start()
            proxy = self.proxy('127.0.0.1:%d' % upstream.server_port)
            for size in (0, 1, 16384, 100001, MEGABYTES):
                data = content(size, 1)
                file.seek(0)
                file.truncate()
                file.write(data)
                file.flush()
                self.assertTrue(curl('--data-binary', '@' + file.name, proxy.base) == data, size)
                self.assertTrue(curl('--upload-file', file.name, proxy.base + '/put') == data, size)
            self.assert_quiet(proxy)
            upstream.shutdown()
            thread.join()


class Ends(Case):
    """Servers and clients that end, vanish, stall or are not there."""

    def test_a_client_that_ends_its_side_gets_the_whole_answer(self):
        proxy, client, server = self.pair()
        data = content(MEGABYTES)
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        self.assertTrue(receive_all(server) == data)
        sender.join()
        sender = threading.Thread(target=lambda: (server.sendall(data[::-1]), server.close()))
        sender.start()
        self.assertTrue(receive_all(client) == data[::-1])
        sender.join()
        self.assert_quiet(proxy)

    def test_a_server_that_ends_its_side_still_hears_the_client(self):
        proxy, client, server = self.pair()
        server.sendall(b'welcome')
        server.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(client), b'welcome')
        data = content(MEGABYTES)
        sender = threading.Thread(target=lambda: (client.sendall(data), client.close()))
        sender.start()
        self.assertTrue(receive_all(server) == data)
        sender.join()
        self.assert_quiet(proxy)

    def test_both_ways_at_once(self):
        proxy, client, server = self.pair()
        up, down, got = content(MEGABYTES, 2), content(MEGABYTES, 3), {}

        def send(s, data):
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)

        threads = [threading.Thread(target=send, args=(client, up)), threading.Thread(target=send, args=(server, down)),
                   threading.Thread(target=lambda: got.update(server=receive_all(server)))]
        for t in threads:
            t.start()
        self.assertTrue(receive_all(client) == down)
        for t in threads:
            t.join()
        self.assertTrue(got['server'] == up)
        self.assert_quiet(proxy)

    def assert_reset(self, s):
        """What comes before it."""
        data = b''
        with self.assertRaises(ConnectionResetError):
            while part := s.recv(1 << 16):
                data += part
            self.fail('an orderly end after %d bytes' % len(data))
        return data

    def test_a_server_that_is_not_there(self):
        with socket.socket() as closed: # bound, and not listening
            closed.bind(('127.0.0.1', 0))
            proxy = self.proxy('127.0.0.1:%d' % closed.getsockname()[1])
            for _ in range(3):
                with proxy.connect() as client:
                    self.assert_reset(client)
            proxy.wait_for_complaint(r'^proxy: 127\.0\.0\.1:\d+: 127\.0\.0\.1:%d: Connection refused$' % closed.getsockname()[1])

    def test_a_server_that_does_not_accept(self):
        listener = self.listener(backlog=0)
        address = listener.getsockname()
        fillers = []
        for _ in range(8): # until the queue is full, what comes is not even answered
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(address)
            fillers.append(s)
        proxy = self.proxy('127.0.0.1:%d' % address[1], '--connect', '1')
        with proxy.connect() as client:
            self.assert_reset(client)
        proxy.wait_for_complaint('Connection timed out$')
        for s in fillers:
            s.close()

    def test_a_server_that_resets_is_not_taken_for_one_that_ends(self):
        proxy, client, server = self.pair()
        client.sendall(b'question')
        receive_exactly(server, 8)
        server.sendall(b'half an ans')
        self.assertEqual(receive_exactly(client, 11), b'half an ans')
        reset(server)
        server.close()
        self.assert_reset(client)
        proxy.wait_for_complaint(r'127\.0\.0\.1:\d+: Connection reset by peer$')

    def test_a_client_that_resets_is_not_taken_for_one_that_ends(self):
        proxy, client, server = self.pair()
        client.sendall(b'half a quest')
        receive_exactly(server, 12)
        reset(client)
        client.close()
        self.assert_reset(server)
        proxy.wait_for_complaint(r'client: Connection reset by peer$')

    def test_a_client_that_vanishes_while_much_comes(self):
        proxy, client, server = self.pair()
        failed = []

        def send():
            try:
                while True:
                    server.sendall(b'x' * 65536)
            except (ConnectionResetError, BrokenPipeError):
                failed.append(True)

        sender = threading.Thread(target=send)
        sender.start()
        receive_exactly(client, 100000)
        reset(client)
        client.close()
        sender.join()
        self.assertEqual(failed, [True])
        proxy.wait_for_complaint(r'client: (Connection reset by peer|Broken pipe)$')

    def test_nothing_moves_for_the_idle_time(self):
        proxy, client, server = self.pair('--idle', '1')
        client.sendall(b'hello')
        self.assertEqual(receive_exactly(server, 5), b'hello')
        self.assert_reset(client)
        self.assert_reset(server)
        proxy.wait_for_complaint('Connection timed out$')

    def test_a_server_that_reads_nothing_for_the_idle_time(self):
        proxy, client, server = self.pair('--idle', '1')
        client.setblocking(False)
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            while True: # fills all the buffers on the way, then meets the reset
                try:
                    client.send(b'x' * 65536)
                except BlockingIOError:
                    os.sched_yield()
        self.assert_reset(server)
        proxy.wait_for_complaint('Connection timed out$')

    def test_no_more_than_so_many_connections(self):
        upstream = self.listener()
        proxy = self.proxy('127.0.0.1:%d' % upstream.getsockname()[1], '--connections', '2')
        clients = [proxy.connect() for _ in range(3)] # the kernel takes the third, the proxy does not
        servers = [upstream.accept()[0] for _ in range(2)]
        for number, s in enumerate(clients):
            s.sendall(b'%d' % number)
        numbers = [receive_exactly(s, 1) for s in servers]
        self.assertEqual(sorted(numbers), [b'0', b'1'])
        upstream.setblocking(False)
        with self.assertRaises(BlockingIOError):
            upstream.accept()
        upstream.setblocking(True)
        clients[0].close()
        servers[numbers.index(b'0')].close()
        servers.append(upstream.accept()[0]) # now there is room
        self.assertEqual(receive_exactly(servers[2], 1), b'2')
        for s in clients + servers:
            s.close()

    def test_unix_sockets_on_both_sides(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as upstream:
            upstream.bind(folder + '/upstream')
            upstream.listen()
            process = subprocess.Popen([PROGRAM, '--listen', 'unix:' + folder + '/proxy', '--to', 'unix:' + folder + '/upstream'],
                                       stdout=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline(), 'listening on unix:%s/proxy\n' % folder)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(folder + '/proxy')
                server = upstream.accept()[0]
                client.sendall(b'there')
                self.assertEqual(receive_exactly(server, 5), b'there')
                server.sendall(b'and back')
                server.close()
                self.assertEqual(receive_all(client), b'and back')
            process.send_signal(signal.SIGTERM)
            self.assertEqual((process.communicate()[0], process.returncode), ('drained: 1 connections, 0 failed\n', 0))


class Draining(Case):
    def refuse(self, proxy):
        with self.assertRaises(ConnectionRefusedError):
            while True: # until the listener is closed
                try:
                    proxy.connect().close()
                except ConnectionResetError: # it was, at this very moment
                    pass

    def test_those_that_are_there_may_finish(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            upstream = self.listener(backlog=500)
            proxy = Proxy('127.0.0.1:%d' % upstream.getsockname()[1], '--drain', '3600')
            client = proxy.connect()
            server = upstream.accept()[0]
            proxy.send_signal(number)
            self.refuse(proxy)
            data = content(MEGABYTES)
            sender = threading.Thread(target=lambda: (server.sendall(data), server.close()))
            sender.start()
            self.assertTrue(receive_all(client) == data)
            sender.join()
            self.assertIsNone(proxy.process.poll())
            client.close()
            upstream.close() # resets those of refuse that it had not accepted
            status, output = proxy.wait()
            self.assertEqual(status, 0)
            self.assertRegex(output, r'^drained: \d+ connections, \d+ failed\n$')
            proxy.errors.close()

    def test_those_that_take_longer_are_cut_off(self):
        proxy, client, server = self.pair('--drain', '1')
        client.sendall(b'x')
        receive_exactly(server, 1)
        self.assertEqual(proxy.stop(signal.SIGTERM), (0, 'drained: 1 connections, 1 failed\n'))
        self.assertRegex('\n'.join(proxy.complaints()), r'^proxy: 127\.0\.0\.1:\d+: cut off: Operation canceled$')
        for s in (client, server):
            with self.assertRaises(ConnectionResetError):
                s.recv(1)

    def test_a_second_signal_ends_at_once(self):
        proxy, client, server = self.pair('--drain', '3600')
        proxy.send_signal(signal.SIGTERM)
        self.refuse(proxy)
        while proxy.process.poll() is None:
            proxy.send_signal(signal.SIGTERM)
        self.assertEqual(proxy.process.wait(), -signal.SIGTERM)

    def test_with_nobody_there_it_ends(self):
        upstream = self.listener()
        proxy = self.proxy('127.0.0.1:%d' % upstream.getsockname()[1])
        self.assertEqual(proxy.stop(signal.SIGTERM), (0, 'drained: 0 connections, 0 failed\n'))


class CommandLine(unittest.TestCase):
    def run_proxy(self, *arguments):
        done = subprocess.run([PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stderr

    def test_what_makes_no_sense_is_refused(self):
        for arguments in ([], ['--to'], ['--to', 'x:1', 'more'], ['--to', 'x:1', '--idle', '0'], ['--to', 'x:1', '-n', 'many']):
            status, errors = self.run_proxy(*arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn('usage: proxy', errors)

    def test_an_address_that_is_taken(self):
        with socket.create_server(('127.0.0.1', 0)) as other:
            address = '127.0.0.1:%d' % other.getsockname()[1]
            status, errors = self.run_proxy('--listen', address, '--to', 'x:1')
        self.assertEqual((status, errors.splitlines()[0]), (1, 'proxy: %s: cannot listen: Address already in use' % address))


if __name__ == '__main__':
    PROGRAM, NGINX = sys.argv.pop(1), sys.argv.pop(1) + '/usr/sbin/nginx'
    unittest.main(verbosity=2)
