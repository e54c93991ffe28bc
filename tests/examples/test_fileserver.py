"""The file server against clients of every kind: exact, odd, hostile, slow, silent and leaving. No test has a limit of time."""
import email.utils
import html.parser
import http.client
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

from harness import Client, Server, receive_all

SIZES = [0, 1, 2, 1000, 1024, 16383, 16384, 16385, 65536, 100000, 5 * 1024 * 1024]
LONG_AGO = 'Thu, 01 Jan 1998 00:00:00 GMT'
LATER = 'Fri, 01 Jan 2100 00:00:00 GMT'
LOG_LINE = re.compile(r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] '
                      r'"((?:[^"\\]|\\x[0-9A-F]{2})*)" (\d{3}) (\d+) "((?:[^"\\]|\\x[0-9A-F]{2})*)" "((?:[^"\\]|\\x[0-9A-F]{2})*)"')


def content(size, seed=0):
    """Different at every place, so that bytes that moved are seen."""
    block = bytes((i * 31 + (i >> 8) * 17 + seed) & 0xff for i in range(65521))
    return (block * (size // len(block) + 1))[:size]


def write(root, name, data):
    path = os.path.join(os.fsencode(root), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data)
    return path


class Case(unittest.TestCase):
    """One server for the tests of a class; each class leaves with its orderly end."""
    options = ['--log', '/dev/null']

    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp()
        cls.make_tree(cls.root)
        cls.server = Server(PROGRAM, '--port', '0', *cls.options, cls.root)

    @classmethod
    def tearDownClass(cls):
        status, output = cls.server.stop()
        shutil.rmtree(cls.root)
        assert status == 0 and 'drained: ' in output, (status, output)

    @classmethod
    def make_tree(cls, root):
        write(root, 'file.txt', b'0123456789')

    def get(self, *args, **kwargs):
        with Client(self.server) as client:
            return client.get(*args, **kwargs)

    def raw(self, data):
        """Everything that comes back when data is sent and nothing more."""
        with Client(self.server) as client:
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)
            return receive_all(client.socket)

    def status_of(self, data):
        """The status with which data is refused; the connection ends without the client's doing."""
        with Client(self.server) as client:
            client.send(data)
            answer = client.answer()
            self.assertEqual((answer.status, answer.headers.get('connection')), (answer.status, 'close'), data[:100])
            self.assertTrue(client.at_end())
            return answer.status


class Files(Case):
    names = ['plain.html', 'with space.txt', 'percent%41.txt', '100%', 'quest?ion', 'hash#tag', "quote'\"<&>.txt",
             'ünïcødé/日本語.md',
             'plus+plus', 'semi;colon:and@at', '~tilde', '.hidden', 'back\\slash', 'new\nline', os.fsdecode(b'not utf-8 \xff\xfe'),
             'a/b/c/d/e/f/g/deep.css']

    @classmethod
    def make_tree(cls, root):
        cls.expected = {}
        for size in SIZES:
            cls.expected['size/%d.bin' % size] = content(size)
        for i, name in enumerate(cls.names):
            cls.expected[name] = content(300, i + 1)
        for name, data in cls.expected.items():
            write(root, name, data)

    def quoted(self, name):
        return '/' + urllib.parse.quote(os.fsencode(name))

    def test_every_file_is_equal_byte_for_byte_on_one_connection(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port)
        for name, data in self.expected.items():
            connection.request('GET', self.quoted(name))
            response = connection.getresponse()
            self.assertEqual((name, response.status, response.read() == data), (name, 200, True))
        connection.close()

    def test_every_file_is_equal_by_curl(self):
        if shutil.which('curl') is None:
            self.skipTest('no curl')
        for name, data in self.expected.items():
            url = 'http://%s:%d%s' % (self.server.host, self.server.port, self.quoted(name))
            got = subprocess.run(['curl', '--silent', '--fail', '--noproxy', '*', url], stdout=subprocess.PIPE, check=True).stdout
            self.assertEqual((name, got == data), (name, True))

    def test_head_says_the_same_as_get_and_has_no_body(self):
        with Client(self.server) as client:
            for name, data in self.expected.items():
                get, head = client.get(self.quoted(name)), client.get(self.quoted(name), method='HEAD')
                get.headers.pop('date'), head.headers.pop('date')
                self.assertEqual((head.status, head.headers), (get.status, get.headers))
                self.assertEqual(int(head.headers['content-length']), len(data))
            self.assertEqual(client.rest, b'')

    def test_two_hundred_connections_at_once(self):
        names = [n for n in self.expected if len(self.expected[n]) <= 100000]
        wrong = []

        def client(number):
            connection = http.client.HTTPConnection(self.server.host, self.server.port)
            for i in range(20):
                name = names[(number * 7 + i) % len(names)]
                connection.request('GET', self.quoted(name))
                if connection.getresponse().read() != self.expected[name]:
                    wrong.append(name)
            connection.close()

        threads = [threading.Thread(target=client, args=(i,)) for i in range(200)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])


class Directories(Case):
    @classmethod
    def make_tree(cls, root):
        for name in ['a.txt', '<b>&"\'.txt', 'javascript:alert(1)', 'sub dir/x.txt', 'indexed/index.html',
                     'odd/index.html/y.txt', 'ü.txt',
                     'empty/x']:
            write(root, name, name.encode())
        os.unlink(os.path.join(root, 'empty/x'))
        for i in range(2000):
            write(root, 'many/%04d with a longer name' % i, b'')

    def links(self, target):
        answer = self.get(target)
        found = []

        class Parser(html.parser.HTMLParser):
            def handle_starttag(self, tag, attributes):
                if tag == 'a':
                    found.append(dict(attributes)['href'])

        self.assertEqual((answer.status, answer.headers['content-type']), (200, 'text/html; charset=utf-8'))
        self.assertTrue(answer.complete)
        Parser().feed(answer.body.decode())
        return found, answer.body

    def test_a_page_names_everything_and_its_links_work(self):
        hrefs, page = self.links('/')
        names = [urllib.parse.unquote(href) for href in hrefs]
        there = ['./' + n + ('/' if os.path.isdir(os.path.join(self.root, n)) else '') for n in os.listdir(self.root)]
        self.assertEqual(sorted(names), sorted(there))
        self.assertNotIn(b'<b>', page)
        for href in hrefs:
            self.assertEqual(self.get(urllib.parse.urljoin('/', href)).status, 200, href)

    def test_a_page_of_many_names_is_whole(self):
        hrefs, _ = self.links('/many/')
        self.assertEqual(len(hrefs), 2001)
        head = self.get('/many/', method='HEAD')
        self.assertEqual(int(head.headers['content-length']), len(self.get('/many/').body))

    def test_an_empty_directory_has_a_page(self):
        self.assertEqual(self.links('/empty/')[0], ['../'])

    def test_an_index_stands_for_its_directory(self):
        answer = self.get('/indexed/')
        self.assertEqual((answer.status, answer.body), (200, b'indexed/index.html'))
        self.assertEqual(self.get('/odd/').status, 200)  # there the index is a directory

    def test_a_directory_without_slash_is_redirected(self):
        for target, location in [('/sub%20dir', '/sub%20dir/'), ('/indexed?a=b&c', '/indexed/?a=b&c'), ('//indexed', '/indexed/'),
                                 ('///indexed', '/indexed/'), ('/./indexed', '/indexed/')]:
            answer = self.get(target)
            self.assertEqual((answer.status, answer.headers['location']), (301, location))

    def test_a_file_is_no_directory(self):
        self.assertEqual(self.get('/a.txt/').status, 404)
        self.assertEqual(self.get('/a.txt/b').status, 404)


class Refused(Case):
    @classmethod
    def make_tree(cls, root):
        cls.outside = tempfile.mkdtemp()
        write(cls.outside, 'secret', b'secret')
        write(root, 'inside.txt', b'inside')
        write(root, 'sub/file.txt', b'file')
        os.symlink(os.path.join(cls.outside, 'secret'), os.path.join(root, 'absolute'))
        os.symlink('../' * 20 + cls.outside.lstrip('/') + '/secret', os.path.join(root, 'relative'))
        os.symlink(cls.outside, os.path.join(root, 'directory'))
        os.symlink('/proc/self/root' + cls.outside + '/secret', os.path.join(root, 'magic'))
        os.symlink('../inside.txt', os.path.join(root, 'sub/good'))
        os.symlink('loop', os.path.join(root, 'loop'))
        os.mkfifo(os.path.join(root, 'fifo'))
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(os.path.join(root, 'socket'))
        unix.close()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.outside)

    def test_nothing_outside_of_the_root(self):
        up = [b'..', b'%2e%2e', b'%2E.', b'.%2e']
        for target in [b'/' + u + b'/' + b'/'.join([u] * 20) + self.outside.encode() + b'/secret' for u in up] + \
                      [b'/sub/../inside.txt', b'/..', b'/sub/..%2f..%2f..%2fetc%2fpasswd',
                       b'/%2e%2e%2f%2e%2e/etc/passwd', b'/sub%2f..%2f..']:
            answer = self.raw(b'GET ' + target + b' HTTP/1.1\r\nHost: x\r\n\r\n')
            self.assertTrue(answer.startswith(b'HTTP/1.1 400 '), (target, answer))
            self.assertNotIn(b'secret\n', answer)
        self.assertEqual(self.get('/' + self.outside + '/secret').status, 404)  # an absolute path is one below the root

    def test_links_out_are_refused_and_links_within_followed(self):
        for target, status in [('/absolute', 403), ('/relative', 403), ('/directory', 403), ('/directory/', 403),
                               ('/directory/secret', 403),
                               ('/magic', 403), ('/loop', 403), ('/sub/good', 200), ('/inside.txt', 200)]:
            answer = self.get(target)
            self.assertEqual((target, answer.status), (target, status))
            self.assertNotIn(b'secret', answer.body)

    def test_what_is_no_file_is_refused_without_waiting(self):
        self.assertEqual(self.get('/fifo').status, 403)
        self.assertEqual(self.get('/socket').status, 403)

    def test_names_that_are_none(self):
        for target, status in [('/%00', 400), ('/inside.txt%00.html', 400), ('/%', 400), ('/%4', 400), ('/%zz', 400),
                               ('/' + 'x' * 300, 404),
                               ('/missing', 404), ('/sub/missing', 404),
                               ('ftp://x/inside.txt', 400), ('/' + 'x/' * 1500, 404), ('/' + '%41' * 1300, 404)]:
            self.assertEqual((target, self.get(target).status), (target, status))


class Requests(Case):
    def request(self, *headers, target='/file.txt', method='GET', version='HTTP/1.1', host='Host: x'):
        return '\r\n'.join([' '.join([method, target, version]), *([host] if host else []), *headers, '', ''])

    def test_bad_requests_have_their_status(self):
        for data, status in [
                (b'garbage\r\n\r\n', 400),
                (b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(range(256)), 400),
                (b'\0' * 3000, 400),
                (b'GET\r\n\r\n', 400),
                (b'GET /file.txt\r\n\r\n', 505),  # HTTP/0.9
                (b'GET /file.txt HTTX/1.1\r\n\r\n', 400),
                (b'BREW /file.txt HTTP/1.1\r\nHost: x\r\n\r\n', 501),
                (self.request(version='HTTP/2.0'), 505),
                (self.request(host=None), 400),
                (self.request('Host: y'), 400),
                (self.request('No colon'), 400),
                (self.request('Bad name : x'), 400),
                (self.request('Folded: a\r\n b'), 400),
                (self.request('Zero: a\0b'), 400),
                (self.request(target='/' + 'x' * 5000), 414),
                (self.request(target='/' + 'x' * 30000), 414),
                (self.request('Big: ' + 'x' * 20000), 431),
                (self.request(*['H%d: x' % i for i in range(200)]), 431),
                (self.request('Big: ' + 'x' * 100000), 431),
                (self.request('Content-Length: 1000000', method='POST'), 413),
                (self.request('Content-Length: 1000000'), 413),
                (self.request('Content-Length: -1'), 400),
                (self.request('Content-Length: 99999999999999999999999'), 400),
                (self.request('Content-Length: 1', 'Content-Length: 2'), 400),
                (self.request('Content-Length: 1', 'Transfer-Encoding: chunked'), 400),
                (self.request('Transfer-Encoding: chunked') + 'zz\r\n', 400),
                (self.request('Expect: the unexpected'), 417),
                (self.request('Expect: 100-continue', 'Content-Length: 5', method='PUT'), 405),
                (self.request(method='CONNECT', target='x:80'), 405),
        ]:
            self.assertEqual((data, self.status_of(data)), (data, status))
        self.assertEqual(self.get('/file.txt').body, b'0123456789')

    def test_unterminated_garbage_of_any_kind_leaves_the_server_alive(self):
        for data in [b'', b'G', b'GET ', b'GET /', b'GET / HTTP/1.1', b'GET / HTTP/1.1\r\nHost', b'\r\n\r\n\r\n',
                     b'GET / HTTP/1.1\r\nHost: x\r\n',
                     b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123']:
            self.raw(data)
        self.assertEqual(self.get('/file.txt').status, 200)

    def test_mutated_requests_leave_the_server_alive(self):
        seed = random.SystemRandom().randrange(1 << 32)
        rng = random.Random(seed)
        good = [self.request('Range: bytes=1-2', 'If-None-Match: "x", W/"y"', 'If-Modified-Since: ' + LONG_AGO, 'User-Agent: u'),
                self.request('Transfer-Encoding: chunked', method='POST') + '5\r\nabcde\r\n0\r\n\r\n',
                self.request('Content-Length: 5', 'Expect: 100-continue') + 'abcde',
                self.request(target='/%66ile.txt?a=b', method='HEAD'),
                self.request(target='http://x:1/./sub/', version='HTTP/1.0')]
        for i in range(1000):
            data = bytearray(''.join(rng.choices(good, k=rng.randrange(1, 4))).encode())
            for _ in range(rng.randrange(1, 6)):
                at = rng.randrange(len(data))
                data[at:at + rng.randrange(4)] = rng.choice([b'', b'\0', b'\r', b'\n', b'\r\n', b' ', b':', b'%',
                                                             b'/', b'../', b'"', b'\xff',
                                                            b'9' * 20, b'-1', b'x' * 2000, bytes([rng.randrange(256)])])
            answer = self.raw(bytes(data[:rng.randrange(1, 20000)]))
            self.assertTrue(answer == b'' or answer.startswith(b'HTTP/1.1 '), (seed, i, data, answer))
        self.assertEqual(self.get('/file.txt').body, b'0123456789')

    def test_a_body_too_long_in_chunks_is_refused(self):
        chunk = b'8000\r\n' + b'x' * 0x8000 + b'\r\n'
        self.assertEqual(self.status_of(self.request('Transfer-Encoding: chunked').encode() + chunk * 4), 413)

    def test_other_methods_are_not_allowed_and_the_connection_goes_on(self):
        with Client(self.server) as client:
            for method in ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PATCH', 'PROPFIND']:
                answer = client.get('/file.txt', 'Content-Length: 0', method=method)
                self.assertEqual((method, answer.status, answer.headers['allow']), (method, 405, 'GET, HEAD'))
            self.assertEqual(client.get('*', method='OPTIONS').status, 405)
            self.assertEqual(client.get('/file.txt').status, 200)

    def test_bodies_are_read_and_dropped(self):
        with Client(self.server) as client:
            for body in [b'x', b'x' * 5000, b'GET /missing HTTP/1.1\r\n\r\n', b'x' * 16384]:
                client.send(self.request('Content-Length: %d' % len(body)).encode() + body)
                self.assertEqual(client.answer().status, 200)
                chunks = b'%x\r\n%s\r\n0\r\nTrailer: x\r\n\r\n' % (len(body), body)
                client.send(self.request('Transfer-Encoding: chunked').encode() + chunks)
                self.assertEqual(client.answer().body, b'0123456789')
            client.send(self.request('Content-Length: 3', method='POST').encode() + b'abc' + self.request().encode())
            self.assertEqual([client.answer().status, client.answer().status], [405, 200])

    def test_a_client_that_waits_for_100_gets_it_before_it_sends(self):
        with Client(self.server) as client:
            client.send(self.request('Expect: 100-Continue', 'Content-Length: 5'))
            self.assertEqual(client.answer().status, 100)
            client.send('12345')
            self.assertEqual(client.answer().status, 200)

    def test_a_hundred_requests_at_once_are_answered_in_order(self):
        with Client(self.server) as client:
            requests = []
            for i in range(100):
                requests.append([self.request(), self.request(target='/missing%d' % i), self.request(method='HEAD'),
                                 self.request('Range: bytes=%d-' % (i % 10))][i % 4])
            client.send(''.join(requests))
            for i in range(100):
                answer = client.answer('HEAD' if i % 4 == 2 else 'GET')
                self.assertEqual(answer.status, [200, 404, 200, 206][i % 4])
                self.assertEqual(answer.body, [b'0123456789', b'404 Not Found\n', b'', b'0123456789'[i % 10:]][i % 4])
            client.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(client.at_end())

    def test_requests_in_pieces_of_any_size(self):
        data = (self.request('User-Agent: ' + 'u' * 700) + self.request('X: ' + 'y' * 3000,
                                                                        'Range: bytes=2-3') + self.request()).encode() * 2
        for piece in [1, 2, 3, 7, 64, 1000, 1535, 1536, 1537]:
            with Client(self.server) as client:
                client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(data), piece):
                    client.send(data[at:at + piece])
                self.assertEqual([client.answer().body for _ in range(6)], [b'0123456789', b'23', b'0123456789'] * 2)

    def test_headers_up_to_the_limit_are_taken(self):
        self.assertEqual(self.get('/file.txt', 'Big: ' + 'x' * 16000).status, 200)
        self.assertEqual(self.get('/file.txt', *['H%d: x' % i for i in range(99)]).status, 200)

    def test_a_whole_url_is_a_target_too(self):
        for target in ['http://elsewhere/file.txt', 'HTTP://x:99/file.txt?query', '/file.txt?a=/../b', '//file.txt']:
            self.assertEqual(self.get(target).body, b'0123456789')

    def test_connections_last_as_long_as_asked_for(self):
        for version, header, lasts in [('HTTP/1.1', 'X: y', None), ('HTTP/1.1', 'Connection: close', 'close'),
                                       ('HTTP/1.0', 'X: y', 'close'),
                                       ('HTTP/1.0', 'Connection: keep-alive', 'keep-alive'),
                                       ('HTTP/1.1', 'Connection: Upgrade\r\nUpgrade: h2c', None)]:
            with Client(self.server) as client:
                answer = client.get('/file.txt', header, version=version)
                self.assertEqual((answer.status, answer.headers.get('connection')), (200, lasts))
                if lasts == 'close':
                    self.assertTrue(client.at_end())
                else:
                    self.assertEqual(client.get('/file.txt').body, b'0123456789')

    def test_a_client_that_ends_its_side_gets_its_answers(self):
        self.assertEqual(self.raw(self.request() * 3).count(b'0123456789'), 3)


class Conditions(Case):
    @classmethod
    def make_tree(cls, root):
        cls.data = content(100000)
        path = write(root, 'file.bin', cls.data)
        os.utime(path, (1600000000, 1600000000.25))
        write(root, 'empty', b'')
        for end in ['html', 'HTML', 'css', 'js', 'json', 'svg', 'png', 'jpg', 'woff2', 'wasm', 'txt', 'md', 'unknown', 'tar.gz']:
            write(root, 'type.' + end, b'')

    def test_ranges(self):
        size = len(self.data)
        with Client(self.server) as client:
            for spec, first, last in [('0-0', 0, 0), ('0-9', 0, 9), ('5-', 5, size - 1), ('-1', size - 1, size - 1),
                                      ('-70000', size - 70000, size - 1),
                                      ('99999-', size - 1, size - 1), ('10-999999', 10, size - 1), ('-999999', 0,
                                                                                                    size - 1), ('0-', 0, size - 1),
                                      ('1000-80000', 1000, 80000), ('50-99999999999999999999999999', 50, size - 1)]:
                answer = client.get('/file.bin', 'Range: bytes=' + spec)
                self.assertEqual((spec, answer.status, answer.headers['content-range']), (spec, 206,
                                                                                          'bytes %d-%d/%d' % (first, last, size)))
                self.assertTrue(answer.body == self.data[first:last + 1])
            for spec in ['100000-', '100000-100001', '99999999999999999999999999-', '-0']:
                answer = client.get('/file.bin', 'Range: bytes=' + spec)
                self.assertEqual((spec, answer.status, answer.headers['content-range']), (spec, 416, 'bytes */%d' % size))
            for value in ['bytes=0-0,2-3', 'bytes=', 'bytes=-', 'bytes=5-4', 'bytes=a-b', 'lines=0-1', 'bytes',
                          'bytes=1-2x', 'bytes=1']:
                answer = client.get('/file.bin', 'Range: ' + value)
                self.assertEqual((value, answer.status, answer.body == self.data), (value, 200, True))
            self.assertEqual(client.get('/file.bin', 'Range: bytes=0-0', method='HEAD').status, 200)
            self.assertEqual(client.get('/empty', 'Range: bytes=0-').status, 416)
            self.assertEqual(client.get('/empty', 'Range: bytes=-5').status, 200)

    def test_conditions(self):
        with Client(self.server) as client:
            first = client.get('/file.bin')
            tag, date = first.headers['etag'], first.headers['last-modified']
            self.assertRegex(tag, r'^"[0-9a-f-]+"$')
            self.assertEqual(email.utils.parsedate_to_datetime(date).timestamp(), 1600000000)
            self.assertEqual(first.headers['accept-ranges'], 'bytes')
            other_forms = ['Sunday, 13-Sep-20 12:26:40 GMT', 'Sun Sep 13 12:26:40 2020']
            for headers, status in [
                    (['If-None-Match: ' + tag], 304),
                    (['If-None-Match: W/' + tag], 304),
                    (['If-None-Match: "x", "y" , ' + tag], 304),
                    (['If-None-Match: *'], 304),
                    (['If-None-Match: "x"'], 200),
                    (['If-None-Match: ' + tag[:-1]], 200),
                    (['If-None-Match: "x"', 'If-Modified-Since: ' + date], 200),
                    (['If-Modified-Since: ' + date], 304),
                    (['If-Modified-Since: ' + LATER], 304),
                    (['If-Modified-Since: ' + LONG_AGO], 200),
                    (['If-Modified-Since: ' + other_forms[0]], 304),
                    (['If-Modified-Since: ' + other_forms[1]], 304),
                    (['If-Modified-Since: yesterday'], 200),
                    (['If-Match: ' + tag], 200),
                    (['If-Match: *'], 200),
                    (['If-Match: W/' + tag], 412),
                    (['If-Match: "x"'], 412),
                    (['If-Match: "x"', 'If-None-Match: ' + tag], 412),
                    (['If-Unmodified-Since: ' + date], 200),
                    (['If-Unmodified-Since: ' + LONG_AGO], 412),
                    (['If-Unmodified-Since: nonsense'], 200),
                    (['If-Match: ' + tag, 'If-Unmodified-Since: ' + LONG_AGO], 200),
                    (['Range: bytes=0-0', 'If-Range: ' + tag], 206),
                    (['Range: bytes=0-0', 'If-Range: ' + date], 206),
                    (['Range: bytes=0-0', 'If-Range: "x"'], 200),
                    (['Range: bytes=0-0', 'If-Range: W/' + tag], 200),
                    (['Range: bytes=0-0', 'If-Range: ' + LONG_AGO], 200),
                    (['Range: bytes=0-0', 'If-None-Match: ' + tag], 304)]:
                answer = client.get('/file.bin', *headers)
                self.assertEqual((headers, answer.status), (headers, status))
                if status == 304:
                    self.assertEqual((answer.headers['etag'], answer.body), (tag, b''))
                    self.assertNotIn('content-length', answer.headers)
                if status in (200, 206):
                    self.assertTrue(answer.body == self.data[:100000 if status == 200 else 1])

    def test_types(self):
        for end, expected in [('html', 'text/html; charset=utf-8'), ('HTML', 'text/html; charset=utf-8'), ('css',
                                                                                                           'text/css; charset=utf-8'),
                              ('js', 'text/javascript; charset=utf-8'), ('json', 'application/json'), ('svg', 'image/svg+xml'),
                              ('png', 'image/png'), ('jpg', 'image/jpeg'), ('woff2', 'font/woff2'), ('wasm', 'application/wasm'),
                              ('txt', 'text/plain; charset=utf-8'), ('md', 'text/markdown; charset=utf-8'),
                              ('unknown', 'application/octet-stream'), ('tar.gz', 'application/gzip')]:
            self.assertEqual(self.get('/type.' + end).headers['content-type'], expected)

    def test_the_date_is_now(self):
        before = int(time.time())
        said = email.utils.parsedate_to_datetime(self.get('/empty').headers['date']).timestamp()
        self.assertTrue(before - 1 <= said <= time.time())


class ChangingFiles(Case):
    big = 256 * 1024 * 1024  # of zeros that take no room: more than the buffers between server and client hold

    def test_a_file_that_grows_or_shrinks_shows_at_once(self):
        with Client(self.server) as client:
            for size in [10, 11, 500, 3, 0, 1, 16384, 16383, 20000, 30000, 17000, 5]:
                data = content(size, size)
                path = write(self.root, 'changing', data)
                answer = client.get('/changing')
                self.assertEqual((answer.status, answer.body), (200, data))
            with open(path, 'ab') as f:
                f.write(b'and more')
            self.assertEqual(client.get('/changing').body, data + b'and more')

    def test_a_replaced_file_shows_after_a_while_and_is_never_a_mixture(self):
        versions = [content(3000, 1), content(3000, 2)]
        write(self.root, 'replaced', versions[0])
        with Client(self.server) as client:
            old = client.get('/replaced')
            write(self.root, 'new', versions[1])
            os.rename(os.path.join(self.root, 'new'), os.path.join(self.root, 'replaced'))
            while True:
                answer = client.get('/replaced')
                self.assertIn(answer.body, versions)
                if answer.body == versions[1]:
                    break
                self.assertEqual(answer.headers['etag'], old.headers['etag'])
            self.assertNotEqual(answer.headers['etag'], old.headers['etag'])

    def test_a_removed_file_is_gone_after_a_while(self):
        path = write(self.root, 'removed', b'x')
        self.assertEqual(self.get('/removed').status, 200)
        os.unlink(path)
        while self.get('/removed').status == 200:
            pass
        self.assertEqual(self.get('/removed').status, 404)

    def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection_only(self):
        path = os.path.join(self.root, 'shrinking')
        with open(path, 'wb') as f:
            f.truncate(self.big)
        with Client(self.server, receive_bytes=65536) as client:
            client.send('GET /shrinking HTTP/1.1\r\nHost: x\r\n\r\n')
            client.socket.recv(1000)
            os.truncate(path, 100000)
            self.assertLess(len(receive_all(client.socket)), self.big)
        self.assertEqual(self.get('/file.txt').status, 200)

    def test_a_file_that_vanishes_while_it_is_sent_is_sent_to_its_end(self):
        path = os.path.join(self.root, 'vanishing')
        with open(path, 'wb') as f:
            f.truncate(self.big // 8)
        with Client(self.server, receive_bytes=65536) as client:
            client.send('GET /vanishing HTTP/1.1\r\nHost: x\r\n\r\n')
            client.rest = client.socket.recv(1)
            os.unlink(path)
            answer = client.answer()
            self.assertEqual((answer.status, answer.complete, answer.body.count(0)), (200, True, self.big // 8))

    def test_a_client_that_does_not_read_holds_up_nobody(self):
        with open(os.path.join(self.root, 'unread'), 'wb') as f:
            f.truncate(self.big // 8)
        stuck = [Client(self.server, receive_bytes=4096) for _ in range(20)]
        for client in stuck:
            client.send('GET /unread HTTP/1.1\r\nHost: x\r\n\r\n' * 3)
        for _ in range(100):
            self.assertEqual(self.get('/file.txt').status, 200)
        answer = stuck[0].answer()
        self.assertEqual((answer.complete, len(answer.body)), (True, self.big // 8))
        for client in stuck:
            client.close()
        self.assertEqual(self.get('/file.txt').status, 200)

    def test_a_file_without_permission_is_forbidden(self):
        if os.geteuid() == 0:
            self.skipTest('root may read everything')
        os.chmod(write(self.root, 'locked', b'x'), 0)
        self.assertEqual(self.get('/locked').status, 403)


class Slow(Case):
    options = ['--idle', '1', '--header', '1']

    def test_a_silent_client_is_sent_away_without_a_word(self):
        with Client(self.server) as client:
            self.assertTrue(client.at_end())
        with Client(self.server) as client:
            self.assertEqual(client.get('/file.txt').status, 200)
            self.assertTrue(client.at_end())

    def test_half_a_request_times_out(self):
        for half in ['GET', 'GET /file.txt HTTP/1.1\r\nHost: x\r\n',
                     'GET /file.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345']:
            self.assertEqual(self.status_of(half), 408)

    def test_a_client_that_drips_headers_is_sent_away(self):
        with Client(self.server) as client:
            client.send('GET /file.txt HTTP/1.1\r\n')
            while not select.select([client.socket], [], [], 0.02)[0]:
                client.send('X: y\r\n')
            self.assertIn(client.answer().status, (408, 431))


class Log(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.log = os.path.join(self.root, 'log')
        write(self.root, 'tree/file.txt', b'0123456789')
        write(self.root, 'tree/large', content(100000))
        self.server = Server(PROGRAM, '--port', '0', '--log', self.log, '--stats', os.path.join(self.root, 'tree'))

    def tearDown(self):
        if self.server.process.poll() is None:
            self.server.process.kill()
            self.server.wait()
        shutil.rmtree(self.root)

    def lines(self):
        with open(self.log, encoding='latin-1') as f:
            return f.read().split('\n')[:-1]

    def test_each_request_has_its_line(self):
        long_agent = 'agent ' + 'x' * 900
        with Client(self.server) as client:
            client.get('/file.txt', 'Referer: http://x/"y"', 'User-Agent: Test \\ \t\xe4')
            client.get('/file.txt', method='HEAD')
            client.get('/large', 'Range: bytes=10-50019')
            client.get('/missing?q="')
            client.get('/file.txt', 'User-Agent: ' + long_agent)
            client.send('nonsense\r\n\r\n')
            client.answer()
        self.assertEqual(self.server.stop()[0], 0)
        got = [LOG_LINE.fullmatch(line) for line in self.lines()]
        self.assertNotIn(None, got, self.lines())
        self.assertEqual([match.groups() for match in got], [
            ('GET /file.txt HTTP/1.1', '200', '10', 'http://x/\\x22y\\x22', 'Test \\x5C \\x09\\xE4'),
            ('HEAD /file.txt HTTP/1.1', '200', '0', '-', '-'),
            ('GET /large HTTP/1.1', '206', '50010', '-', '-'),
            ('GET /missing?q=\\x22 HTTP/1.1', '404', '14', '-', '-'),
            ('GET /file.txt HTTP/1.1', '200', '10', '-', long_agent),
            ('-', '400', '16', '-', '-')])

    def test_no_line_is_lost_and_the_counters_agree(self):
        clients, requests = 50, 200

        def run():
            with Client(self.server) as client:
                for _ in range(requests // 20):
                    client.send('GET /file.txt HTTP/1.1\r\nHost: x\r\n\r\n' * 20)
                    for _ in range(20):
                        client.answer()

        threads = [threading.Thread(target=run) for _ in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        status, output = self.server.stop(signal.SIGTERM)
        *counters, last = output.strip().split('\n')
        self.assertEqual(status, 0)
        self.assertEqual(last, 'drained: %d requests, %d connections, 0 log lines dropped' % (clients * requests, clients))
        self.assertEqual(len(self.lines()), clients * requests)
        for line in self.lines():
            self.assertRegex(line, LOG_LINE)
        for line in counters:
            self.assertRegex(line, r'^requests=\d+ connections=\d+ fibers=\d+ steals=\d+ completions=\d+ wakes=\d+ log_dropped=0$')
        self.assertTrue(counters[-1].startswith('requests=%d connections=0 ' % (clients * requests)), counters[-1])

    def test_lines_show_while_the_server_runs(self):
        with Client(self.server) as client:
            client.get('/file.txt')
            while not self.lines():
                pass
        self.assertEqual(self.server.stop()[0], 0)


class Stop(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        write(self.root, 'file.txt', b'0123456789')
        with open(os.path.join(self.root, 'big'), 'wb') as f:
            f.truncate(64 * 1024 * 1024)

    def tearDown(self):
        shutil.rmtree(self.root)

    def start(self, *options, **popen):
        return Server(PROGRAM, '--port', '0', *options, self.root, **popen)

    def test_idle_clients_go_and_a_download_is_finished(self):
        server = self.start('--header', '10000', '--drain', '10000')
        idle, silent, half = Client(server), Client(server), Client(server)
        idle.get('/file.txt')
        half.send('GET /file.txt HTTP/1.1\r\n')
        with Client(server, receive_bytes=65536) as loading:
            loading.send('GET /big HTTP/1.1\r\nHost: x\r\n\r\n')
            loading.rest = loading.socket.recv(1)
            server.send_signal(signal.SIGINT)
            self.assertTrue(idle.at_end())
            self.assertTrue(silent.at_end())
            self.assertEqual(len(loading.answer().body), 64 * 1024 * 1024)
        half.send('Host: x\r\n\r\n')
        answer = half.answer()
        if answer is not None:  # if the signal came before its first bytes, it was an idle one
            self.assertEqual((answer.status, answer.headers['connection']), (200, 'close'))
        for client in (idle, silent, half):
            client.close()
        status, output = server.wait()
        self.assertEqual((status, output.startswith('drained: ')), (0, True))

    def test_either_signal_ends_an_idle_server(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.assertEqual(self.start().stop(number), (0, 'drained: 0 requests, 0 connections, 0 log lines dropped\n'))

    def test_with_few_descriptors_clients_wait_for_each_other(self):
        server = self.start(env=dict(os.environ, SLEY_WORKERS='2'),
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
        clients = [Client(server) for _ in range(100)]
        for client in clients:
            client.send('GET /file.txt HTTP/1.1\r\nHost: x\r\n\r\n')
        for client in clients:  # each leaves room for another; the backlog holds those who wait
            self.assertEqual(client.answer().body, b'0123456789')
            client.close()
        self.assertEqual(server.stop()[0], 0)

    def test_an_ipv6_address(self):
        try:
            server = self.start('--address', '::1')
        except AssertionError:
            self.skipTest('no IPv6')
        with Client(server) as client:
            self.assertEqual(client.get('/file.txt').status, 200)
        self.assertEqual(server.stop()[0], 0)

    def test_bad_arguments_are_refused(self):
        for args, status in [([], 2), (['a', 'b'], 2), (['--what', '.'], 2), (['--idle', '0', '.'], 2), (['--header', 'x', '.'], 2),
                             (['/no such directory'], 1), (['--port', '99999', '.'], 1), (['--port', '0', '--log',
                                                                                           '/no such/log', '.'], 1)]:
            done = subprocess.run([PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertEqual((args, done.returncode), (args, status))
            self.assertNotEqual(done.stderr, '')
            self.assertEqual(done.stdout, '')

    def test_a_port_in_use_is_an_error(self):
        server = self.start()
        done = subprocess.run([PROGRAM, '--port', str(server.port), self.root], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn('in use', done.stderr)
        self.assertEqual(server.stop()[0], 0)

    def test_a_full_disk_costs_log_lines_only(self):
        server = self.start('--log', '/dev/full')
        with Client(server) as client:
            for _ in range(50):
                self.assertEqual(client.get('/file.txt').status, 200)
        self.assertEqual(server.stop(), (0, 'drained: 50 requests, 1 connections, 50 log lines dropped\n'))


if __name__ == '__main__':
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
