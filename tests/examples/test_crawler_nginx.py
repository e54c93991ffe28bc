"""The crawler on a site of 2,000 pages that nginx serves. Exit status 77, which is a skip, where there is no nginx: ./dev fetches one.

nginx runs as an ordinary process: in a folder of its own, in the foreground, on a socket that is made here and handed down, as nginx
hands its sockets to its own successor, so that no port is guessed and nobody need wait until it listens."""
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

from crawling import LIMITS, check_site, crawl
from misbehave import AWAY, Misbehaving
from website import Expect, Site

CONFIGURATION = r"""
%(user)s
worker_processes 2;
pid %(root)s/pid;
error_log %(root)s/error.log warn;
events { worker_connections 200; }
http {
    log_format crawl '$request_uri $status $body_bytes_sent $connection';
    access_log %(root)s/access.log crawl;
    client_body_temp_path %(root)s/body; proxy_temp_path %(root)s/proxy; fastcgi_temp_path %(root)s/fastcgi;
    uwsgi_temp_path %(root)s/uwsgi; scgi_temp_path %(root)s/scgi;
    types { text/html html shtml; text/plain txt; image/png png; }
    charset utf-8; log_not_found off; keepalive_timeout 86400s;
    server {
        listen 127.0.0.1:%(port)d;
        root %(root)s/site;
        location /ssi/ { ssi on; }
        location /ssi/until-close/ { ssi on; chunked_transfer_encoding off; }
        location /slow/ { limit_rate 20k; }
        location = /nginx/444 { return 444; }
        location = /nginx/302 { return 302 /nginx/301?x; }
        location = /nginx/301 { return 301 http://127.0.0.1:%(port)d/nginx/307; }
        location = /nginx/307 { return 307 308; }
        location = /nginx/308 { return 308 /after/5.html; }
        location = /nginx/loop/a { return 302 b; }
        location = /nginx/loop/b { return 302 a; }
        location = /nginx/away { return 303 %(away)s; }
        location = /nginx/text { return 200 "text"; }
        location = /nginx/500 { return 500; }
        location = /nginx/410 { return 410 "gone"; }
        location = /nginx/closes { keepalive_timeout 0; return 200 "the last"; }
    }
}
"""


class Nginx:
    def __init__(self, root):
        self.root, self.listener = root, socket.create_server(('127.0.0.1', 0), backlog=500)
        self.listener.setblocking(False) # else a worker of nginx waits in accept for a client that another got
        self.port = self.listener.getsockname()[1]
        self.base = 'http://127.0.0.1:%d' % self.port
        user = 'user %s;' % getpass.getuser() if os.geteuid() == 0 else '' # its workers become another without that
        with open(root + '/nginx.conf', 'w') as f:
            f.write(CONFIGURATION % dict(root=root, port=self.port, user=user, away=AWAY))

    def start(self):
        fd = self.listener.fileno()
        self.process = subprocess.Popen([NGINX, '-p', self.root, '-c', self.root + '/nginx.conf', '-e', self.root + '/error.log', '-g',
                                         'daemon off;'], pass_fds=[fd], env=dict(os.environ, NGINX='%d;' % fd))
        self.listener.close()

    def stop(self):
        """Its exit status, and what it has to complain of. All is in its log then."""
        self.process.send_signal(signal.SIGQUIT)
        status = self.process.wait()
        with open(self.root + '/error.log') as log:
            return status, [line for line in log if 'using inherited sockets' not in line]

    def log(self):
        """Requests by target, the bytes of the last answer to each URL, and the connections."""
        requests, sizes, connections = {}, {}, set()
        with open(self.root + '/access.log') as log:
            for line in log:
                target, _, size, connection = line.split()
                requests[target] = requests.get(target, 0) + 1
                sizes[self.base + target] = int(size)
                connections.add(connection)
        return requests, sizes, connections


def expect_extras(site):
    """What nginx can do and a file cannot."""
    base = site.base
    target = site.url('after/5.html')
    return {
        base + '/nginx/444': Expect(error='Connection reset by peer', requests=4),
        base + '/nginx/302': Expect(302, redirect=base + '/nginx/301?x'),
        base + '/nginx/301?x': Expect(301, redirect=base + '/nginx/307'),
        base + '/nginx/307': Expect(307, redirect=base + '/nginx/308'),
        base + '/nginx/308': Expect(308, redirect=target),
        base + '/nginx/loop/a': Expect(302, redirect=base + '/nginx/loop/b', note='a loop'),
        base + '/nginx/loop/b': Expect(302, redirect=base + '/nginx/loop/a', note='a loop'),
        base + '/nginx/away': Expect(303, redirect=AWAY, note='outside'),
        base + '/nginx/text': Expect(200, 'text/plain', 'utf-8', 4),
        base + '/nginx/500': Expect(500),
        base + '/nginx/410': Expect(410, 'text/plain', 'utf-8', 4),
        base + '/nginx/closes': Expect(200, 'text/plain', 'utf-8', 8),
    }


class SiteOfNginx(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.nginx = Nginx(self.root)

    def tearDown(self):
        if self.nginx.process.poll() is None:
            self.nginx.stop()
        shutil.rmtree(self.root)

    def test_every_page_is_fetched_once_and_reported_rightly(self):
        base = self.nginx.base
        with Misbehaving([base + '/after/%d.html' % i for i in range(5)]) as other:
            extras = ['/nginx/' + name for name in ('444', '302', 'loop/a', 'away', 'text', '500', '410', 'closes')]
            files = ['/ssi/chunked.shtml', '/ssi/until-close/x.shtml', '/slow/x.html']
            site = Site(base, [other.base + '/', *(base + target for target in extras + files)], error_type=('text/html', 'utf-8'))
            site.add_page('chain/199.html', [], [other.base + '/late'])
            for target in files: # the one include there is has nothing in it, so that the size is known
                site.add_page(target[1:], [], [base + '/'], '<!--# set var="x" value="" -->')
            expect = {**site.expect(), **other.expect, **expect_extras(site)}
            site.write(self.root + '/site')
            self.nginx.start()
            report = crawl(CRAWLER, *LIMITS, '--allow', other.base[7:], '--allow', other.refuses[7:], base)
            self.assertEqual(self.nginx.stop(), (0, []))

        requests, sizes, connections = self.nginx.log()
        for target in files[:2]:
            expect[base + target].size -= len('<!--# set var="x" value="" -->')
        check_site(self, report, expect, sizes, {base: requests, other.base: other.requests})
        # Kept for the next request, but for those that end: by a drop, a thousand requests, a length left out, and where nginx says so.
        self.assertLessEqual(len(connections), report.workers + 4 + len(requests) // 1000 + 2)


if __name__ == '__main__':
    CRAWLER, NGINX = sys.argv.pop(1), sys.argv.pop(1) + '/usr/sbin/nginx'
    if not os.access(NGINX, os.X_OK):
        print('skipped: there is no nginx at', NGINX)
        sys.exit(77)
    unittest.main(verbosity=2)
