"""The crawler on a site of 2,000 pages that the file server serves, and on a few pages of a server that does as it is told."""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from crawling import LIMITS, PROGRESS, Report, check_site, crawl
from harness import Server
from misbehave import Misbehaving
from page_server import PageServer, answer, be_silent, send
from website import Site, anchors, html


class SiteOfFileserver(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.log = self.root + '.log'
        os.mkdir(self.root + '/site')
        self.server = Server(FILESERVER, '--port', '0', '--log', self.log, '--idle', '86400', self.root + '/site')
        self.base = 'http://127.0.0.1:%d' % self.server.port

    def tearDown(self):
        if self.server.process.poll() is None:
            self.server.stop()
        self.server.process.stdout.close()
        shutil.rmtree(self.root)
        os.remove(self.log)

    def read_log(self):
        """Requests by target, and the bytes of the last answer to each."""
        requests, sizes = {}, {}
        with open(self.log, encoding='latin-1') as log:
            for line in log:
                target, size = re.match(r'\S+ - - \[.*?\] "GET (\S+) HTTP/1\.1" \d+ (\d+) ', line).groups()
                requests[target] = requests.get(target, 0) + 1
                sizes[self.base + target] = int(size)
        return requests, sizes

    def test_every_page_is_fetched_once_and_reported_rightly(self):
        after = [self.base + '/after/%d.html' % i for i in range(5)]
        with Misbehaving(after) as other:
            site = Site(self.base, [other.base + '/'])
            site.add_page('chain/199.html', [], [other.base + '/late'])
            site.write(self.root + '/site')
            report = crawl(CRAWLER, *LIMITS, '--allow', other.base[7:], '--allow', other.refuses[7:], self.base)
            status, output = self.server.stop()
            self.assertEqual(status, 0)
            self.assertIn(' 0 log lines dropped', output)

        requests, sizes = self.read_log()
        check_site(self, report, {**site.expect(), **other.expect}, sizes, {self.base: requests, other.base: other.requests})
        connections = int(re.search(r'(\d+) connections', output).group(1))
        self.assertLessEqual(connections, report.workers) # each is kept for the next request


class Small(unittest.TestCase):
    """Sites of a page or two."""

    def run_on(self, pages, *args, root='/'):
        """Crawl what a server with these pages has. The report and the targets asked for."""
        with PageServer(pages) as server:
            return crawl(CRAWLER, *args, server.base + root), server

    def test_links_mean_what_they_should(self):
        links = {
            'x': '/a/x', '../x': '/x', '../../../x': '/x', './': '/a/', '.': '/a/', '..': '/', '': '/a/b', '?q': '/a/b?q', '/q?#f': '/q?',
            '/a%2fb': '/a%2Fb', '/a%00b': '/a%00b', '/%7euser': '/~user', '/100%': '/100%25', '/%zz': '/%25zz', '/a b\tc\n': '/a%20bc',
            '/[x]?y[]=<z>': '/%5Bx%5D?y%5B%5D=%3Cz%3E', '/é': '/%C3%A9', '/a//b': '/a/b', '/%2e%2e/%2E/y': '/y', '/wiki/A:B': '/wiki/A:B',
            '/"quoted\'': '/%22quoted\'', '/back\\slash': '/back%5Cslash', '/;p=1,2': '/;p=1,2', '/' + 'x' * 4000: '/' + 'x' * 4000,
            '/p?u=http://h/../x': '/p?u=http://h/../x', 'http:relative': None, '/' + 'x' * 5000: None, 'a:b': None, 'http://[::1': None,
            'data:text/html,<a href=x>': None, 'http://127.0.0.1:99999/': None, 'http://127.0.0.1:1/': None, 'http://%31/': None,
        }
        text = ''.join('<a href="%s">x</a>' % link.replace('&', '&amp;').replace('"', '&quot;') for link in links)
        report, server = self.run_on({'/a/b': send(answer(text.encode()))}, root='/a/b')
        self.assertEqual(server.requests, {target: 1 for target in {*links.values(), '/a/b'} - {None}})
        self.assertEqual((report.status, report.errors, report.todo), (0, [], 0))

    def test_one_worker_is_enough(self):
        pages = {'/%d' % i: send(answer(html('', anchors(['/%d' % (i * 2 + 1), '/%d' % (i * 2 + 2)])))) for i in range(100)}
        report, server = self.run_on(pages, '--workers', '1', root='/0')
        self.assertEqual(server.requests, {'/%d' % i: 1 for i in range(201)})
        self.assertEqual((report.counts['html'], report.counts['status_404'], server.connections), (100, 101, 1))

    def test_a_silent_server_is_a_timeout(self):
        def drip(server, connection, before):
            connection.sendall(b'HTTP/1.1 200 OK\r\n')
            while True: # an answer that goes on and on is none either
                connection.sendall(b'X: y\r\n')
                if server.ending.wait(0.05):
                    return False

        for page in (lambda server, connection, _before: bool(connection.recv(1)), drip):
            report, server = self.run_on({'/': page}, '--timeout', '1')
            self.assertEqual(list(report.lines.values()), [server.base + '/ error Connection timed out (1 try)'])
            self.assertEqual((report.counts, report.status), ({'fail': 1, 'fail_ETIMEDOUT': 1}, 0))

    def test_a_server_that_closes_without_a_word_loses_nothing(self):
        pages = {'/': send(answer(anchors(['/%d' % i for i in range(200)]).encode()), more=False),
                 **{'/%d' % i: send(answer(type='x/y'), more=False) for i in range(200)}}
        report, server = self.run_on(pages)
        self.assertEqual(server.requests, dict.fromkeys(pages, 1)) # a request on a connection that ends is not seen by the server
        self.assertEqual(report.counts, {'html': 1, 'html_bytes': report.counts['html_bytes'], 'other': 200})

    def test_limits_are_those_asked_for(self):
        report, server = self.run_on({'/': lambda *_: False}, '--max-tries', '1')
        self.assertEqual(server.requests, {'/': 1})
        report, server = self.run_on({'/': lambda *_: False}, '--max-tries', '6')
        self.assertEqual(server.requests, {'/': 6})
        self.assertEqual(report.lines, {server.base + '/': server.base + '/ error Connection reset by peer (6 tries)'})

        endless = {'/%d' % i: send(answer(b'', '302 Found', ['Location: /%d' % (i + 1)])) for i in range(50)}
        for limit in (0, 1, 20):
            report, server = self.run_on(endless, '--max-redirect', str(limit), root='/0')
            self.assertEqual(server.requests, {'/%d' % i: 1 for i in range(limit + 1)})
            self.assertEqual(report.counts, {'redirect': limit + 1, 'redirect_too_many': 1})

        report, server = self.run_on({'/': send(answer(anchors(['/%d' % i for i in range(100)]).encode()))}, '--max-urls', '7')
        self.assertEqual((sum(server.requests.values()), len(server.requests), report.done), (7, 7, 7))
        self.assertIn('Left out, for there are 7 urls: 94 links', report.others)

    def test_only_the_servers_named_are_asked(self):
        with PageServer() as one, PageServer() as two:
            one.pages = {'/': send(answer(anchors([two.base + '/', two.base + '/x']).encode())),
                         '/r': send(answer(b'', '301 Moved', ['Location: ' + two.base + '/y']))}
            report = crawl(CRAWLER, one.base, one.base + '/r', one.base + '/r#again')
            self.assertEqual((one.requests, two.requests), ({'/': 1, '/r': 1}, {}))
            self.assertEqual(report.lines[one.base + '/r'], '%s/r 301 redirect %s/y (outside)' % (one.base, two.base))
            report = crawl(CRAWLER, '-a', two.base[len('http://'):], one.base, one.base + '/r')
            self.assertEqual(sorted(two.requests), ['/', '/x', '/y'])

    def test_names_and_ipv6_addresses_work(self):
        for host, family in ('::1', socket.AF_INET6), ('localhost', socket.AF_INET):
            try:
                listener = socket.create_server((host, 0), family=family)
            except OSError as e:
                self.skipTest('%s: %s' % (host, e))
            with listener:
                base = 'http://%s:%d' % ('[%s]' % host if ':' in host else host, listener.getsockname()[1])
                process = started(base)
                with listener.accept()[0] as connection:
                    self.assertIn(b'\r\nHost: %s\r\n' % base[len('http://'):].encode(), connection.recv(65536))
                    connection.sendall(answer(b'', type='x/y'))
                output, errors = process.communicate()
                self.assertEqual(list(Report(process.returncode, output, errors).lines.values()), [base + '/ 200 x/y - 0'])

    def test_a_signal_ends_it_with_the_report_of_what_there_is(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            held = ['/held/1', '/held/2', '/held/3']
            with PageServer({'/': send(answer(anchors(held).encode())), **dict.fromkeys(held, be_silent)}) as server:
                process = started('--workers', '2', server.base)
                for _ in range(2):
                    server.silent.acquire()
                process.send_signal(number)
                output, errors = process.communicate()
                report = Report(process.returncode, output, errors)
            self.assertEqual(list(report.lines), [server.base + '/'])
            self.assertEqual((report.status, report.errors, report.done, report.todo), (1, [], 1, 3))
            self.assertIn('Interrupted', report.others)

    def test_it_says_how_far_it_is_when_it_takes_long(self):
        with PageServer({'/': be_silent}) as server:
            process = started(server.base)
            self.assertRegex(process.stderr.readline().rstrip('\n'), PROGRESS)
            process.send_signal(signal.SIGINT)
            process.communicate()

    def test_a_report_that_cannot_be_written_is_an_error(self):
        with PageServer() as server, open('/dev/full', 'w') as full:
            done = subprocess.run([CRAWLER, server.base], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr), (1, 'crawler: standard output: Input/output error\n'))

    def test_bad_arguments_are_refused(self):
        good = 'http://127.0.0.1:1/'
        for args in ([], ['ftp://127.0.0.1/'], ['127.0.0.1'], ['http://'], ['http://[::1'], [good, 'nonsense'], ['--workers', '0', good],
                     ['--workers', 'x', good], ['--workers', '99999999999999999999', good], ['--max-tries', '0', good], ['-x', good],
                     ['--allow', 'a/b', good], ['--allow', '', good], ['--timeout', '-1', good], ['http://' + 'x' * 300 + '/']):
            done = subprocess.run([CRAWLER, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertEqual((done.returncode, done.stdout, done.stderr.splitlines()[-1:]), (2, '', ["Try 'crawler --help'."]), args)

    def test_help_helps(self):
        done = subprocess.run([CRAWLER, '--help'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertIn('usage: crawler [options] URL...', done.stdout)


def started(*args):
    return subprocess.Popen([CRAWLER, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


if __name__ == '__main__':
    CRAWLER, FILESERVER = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
