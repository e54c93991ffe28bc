"""Pages that no well-behaved server has: slow ones, dropped connections, odd and broken answers, redirects of every kind; and beside
each what a crawler must say of it.

No page waits for time to pass: the slow ones wait until the crawler has come to another page, which it only does if it does not wait
for them."""
import socket
import threading

from page_server import PageServer, answer, chunks, reset, send
from website import Expect, anchors, html

MAX_BYTES = 100000    # --max-bytes of the crawler
MAX_TRIES = 4
MAX_REDIRECT = 10
CHUNKED = b'HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n'
AWAY = 'http://203.0.113.1/' # an address that nobody has


class Misbehaving(PageServer):
    def __init__(self, after):
        """after: URLs of another server that pages here link to."""
        super().__init__()
        self.closed_port = socket.socket() # bound and not listening: whoever connects is refused
        self.closed_port.bind(('127.0.0.1', 0))
        self.refuses = 'http://127.0.0.1:%d' % self.closed_port.getsockname()[1]
        self.late = threading.Event() # /late has been asked for
        self.expect = {}
        self.add_pages(list(after))

    def __exit__(self, *args):
        self.late.set()
        super().__exit__(*args)
        self.closed_port.close()

    def add(self, target, page, expect=None):
        self.pages[target] = page
        self.expect[self.base + target] = expect or Expect(size=0)

    def add_html(self, target, links=(), make=lambda body: send(answer(body)), **expect):
        """A page with these links; make: how it is sent."""
        links = [link if link.startswith('http://') else self.base + link for link in links]
        body = html(target, anchors(links))
        self.add(target, make(body), Expect(**dict(dict(size=len(body), links=links), **expect)))

    def add_redirect(self, target, location, status=302, **expect):
        reason = {301: 'Moved Permanently', 302: 'Found', 303: 'See Other', 307: 'Temporary Redirect', 308: 'Permanent Redirect'}[status]
        url = location if '://' in location else self.base + location
        self.add(target, send(answer(b'elsewhere', '%d %s' % (status, reason), ['Location: ' + location])),
                 Expect(status, redirect=url, **expect))

    def add_failing(self, target, page, error, requests=1):
        self.add(target, page, Expect(error=error, requests=requests))

    def add_pages(self, after):
        self.add_slow(after)
        self.add_drops()
        self.add_framing()
        self.add_refused()
        self.add_html_kinds()
        self.add_redirects(after)
        inner = ('/late', '/slow', '/chain/', '/many/', '/rescued/', '/loop/')
        first = [t for t in self.pages if not t.startswith(inner)] + ['/slow/%d' % i for i in range(3)]
        first += ['/chain/0', '/many/0', '/rescued/0', '/loop/a', '/loop/self', '/loop/into', '/missing', self.refuses + '/']
        self.expect[self.base + '/missing'] = Expect(404, 'text/plain', '-', 5)
        self.expect[self.refuses + '/'] = Expect(error='Connection refused')
        self.add_html('/', first)

    def add_slow(self, after):
        def slow(body):
            def page(server, connection, _before):
                data = answer(body)
                connection.sendall(data[:30])
                server.late.wait()
                connection.sendall(data[30:])
                return True
            return page

        def late(body):
            def page(server, connection, _before):
                server.late.set()
                connection.sendall(answer(body))
                return True
            return page

        self.add_html('/late', make=late)
        for i in range(3):
            self.add_html('/slow/%d' % i, after[i:i + 1] + ['/rescued/8'], slow)

    def add_drops(self):
        whole = answer(html('whole'))

        def drop(data, how=lambda connection: False, times=MAX_TRIES):
            def page(_server, connection, before):
                connection.sendall(data if before < times else whole)
                return how(connection) if before < times else True
            return page

        large = answer(b'x' * 50000)
        chunked = CHUNKED + chunks([b'abc'] * 50)
        for name, page in {'at-once': drop(b''), 'by-reset': drop(b'', reset), 'in-status': drop(whole[:10]), 'in-header': drop(whole[:40]),
                           'in-body': drop(whole[:-1]), 'in-large-body': drop(large[:-100], reset), 'in-chunk': drop(chunked[:-90]),
                           'before-last-chunk': drop(chunked[:-5]), 'after-interim': drop(b'HTTP/1.1 100 Continue\r\n\r\n')}.items():
            self.add_failing('/drop/' + name, page, 'Connection reset by peer', MAX_TRIES)
        for times in range(1, MAX_TRIES):
            self.add('/drop/%d' % times, drop(large[:1000], times=times), Expect(size=len(html('whole')), requests=times + 1))

    def add_framing(self):
        def in_chunks(body):
            return send(CHUNKED + chunks([body[i:i + 7] for i in range(0, len(body), 7)], b'Location: /trailer\r\n'))

        def until_close(body):
            return send(CHUNKED.replace(b'Transfer-Encoding', b'X') + body, more=False)

        self.add_html('/chunked', ['/chunked/end'], in_chunks)
        self.add_html('/chunked/end')
        self.add_html('/until-close', ['/until-close/end'], until_close)
        self.add_html('/until-close/end')
        self.add_html('/1.0', make=lambda body: send(answer(body).replace(b'HTTP/1.1', b'HTTP/1.0'), more=False))
        self.add_html('/1.0/keep-alive', make=lambda body: send(answer(body, headers=['Connection: keep-alive']).replace(b'/1.1', b'/1.0')))
        self.add_html('/close', make=lambda body: send(answer(body, headers=['Connection: close']), more=False))
        self.add_html('/surplus', make=lambda body: send(answer(body) + b'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx'))
        self.add_html('/interim', make=lambda body: send(b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLocation: /wrong\r\n'
                                                         b'Content-Type: image/png\r\n\r\n' + answer(body)))
        self.add_html('/bytes', ['/bytes/end'], lambda body: lambda _server, connection, _before: all(
            connection.send(bytes([b])) for b in answer(body)))
        self.add_html('/bytes/end')
        self.add('/204', send(b'HTTP/1.1 204 No Content\r\n\r\n'), Expect(204, '-', '-', 0))
        self.add('/304', send(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n'), Expect(304, '-', '-', 0))
        self.add('/empty', send(answer()), Expect(size=0))
        for status in (400, 401, 500, 503, 599):
            body = anchors(['/not-followed']).encode()
            self.add('/%d' % status, send(answer(body, '%d Oh' % status)), Expect(status, size=len(body)))

    def add_refused(self):
        """What is not HTTP, or more than was asked for."""
        self.add_failing('/garbage', send(b'SSH-2.0-OpenSSH_9.2\r\n', more=False), 'Protocol error')
        self.add_failing('/upgrade', send(b'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n', more=False),
                         'Protocol error')
        self.add_failing('/2.0', send(b'HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n', more=False), 'Protocol error')
        self.add_failing('/interim/many', send(b'HTTP/1.1 102 Processing\r\n\r\n' * 100 + answer(), more=False), 'Protocol error')
        self.add_failing('/chunked/badly', send(CHUNKED + b'xyz\r\n', more=False), 'Protocol error')
        self.add_failing('/length/twice', send(answer(headers=['Content-Length: 1']), more=False), 'Protocol error')
        self.add_failing('/header/huge', send(answer(headers=['X: ' + 'x' * 100000]), more=False), 'Message too long')
        self.add_failing('/header/many', send(answer(headers=['X-%d: y' % i for i in range(20000)]), more=False), 'Message too long')
        self.add_failing('/location/long', send(answer(b'', '302 Found', ['Location: /' + 'x' * 5000])), 'Message too long')
        self.add('/largest', send(answer(b'x' * MAX_BYTES, type='x/y')), Expect(200, 'x/y', '-', MAX_BYTES))
        self.add_failing('/too-large', send(answer(b'x' * (MAX_BYTES + 1)), more=False), 'File too large')
        self.add_failing('/too-large/said', send(b'HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n', more=False),
                         'File too large')
        self.add_failing('/length/overflow', send(b'HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n', more=False),
                         'Protocol error')

        def endless(_server, connection, _before):
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n')
            while True: # until the client leaves
                connection.sendall(b'<a href="/not-followed">' * 1000)

        self.add_failing('/endless', endless, 'File too large')
        self.add_failing('/gzip', send(answer(b'\x1f\x8b' * 100, headers=['Content-Encoding: gzip'])), 'Operation not supported')

    def add_html_kinds(self):
        def page(target, body, links, said='text/html; charset=utf-8', **expect):
            links = [self.base + link for link in links]
            self.add(target, send(answer(body, type=said)), Expect(**dict(dict(size=len(body), links=links), **expect)))
            for link in links:
                if link not in self.expect:
                    self.add_html(link[len(self.base):])

        page('/type/odd', b'<a href=/type/1>', ['/type/1'], ' TEXT/HTML ;\tcharset="UTF-8" ; x=y')
        page('/type/xhtml', b'<html xmlns="http://www.w3.org/1999/xhtml"><a href="/type/2"/></html>', ['/type/2'], 'application/xhtml+xml',
             type='application/xhtml+xml', charset='-')
        page('/type/none', b'<a href="/not-followed">', [], '', type='-', charset='-')
        page('/type/foreign', b'<a href="/not-followed">', [], 'text/\xe9\x9b[31m', type='text/', charset='-')
        self.add_failing('/type/control', send(answer(type='text/\x1b[31m'), more=False), 'Protocol error')
        page('/base', b'<a href="1"><base href="/base/x/y?z"><base href="/no/"><a href="../2">', ['/base/x/1', '/base/2'])
        page('/nul', b'<a href="/nul/1">\0<p>\0</p><a href="/nul/2">', ['/nul/1', '/nul/2'])
        page('/tags', b'<b>' * 1900 + b'</i>' * 10000 + b'<a href="/tags/1">', ['/tags/1'])
        self.add_failing('/tags/deep', send(answer(b'<b>' * 10000 + b'</i>' * 10000)), 'Bad message')
        self.add_failing('/tags/attributes', send(answer(b'<a ' + b' '.join(b'a%d' % i for i in range(8000)) + b'>')), 'Bad message')
        page('/charset/utf-8', b'\xff\xfe<a href="/charset/\xc3\xa9">', ['/charset/%C3%A9'])
        page('/charset/cut', b'<a href="/charset/\xe9">\x81<p><a href="/charset/2">' + b'<p>x' * 2000 + b'<a href="/charset/3">',
             ['/charset/%C3%A9', '/charset/2', '/charset/3'], 'text/html; charset=windows-1252', charset='windows-1252')
        page('/charset/ascii', b'<a href="/charset/5">\xe9' + b'<p>x' * 2000 + b'<a href="/charset/6">', ['/charset/5', '/charset/6'],
             'text/html; charset=us-ascii', charset='us-ascii')
        page('/charset/meta', '<meta charset=shift_jis><a href="/charset/あ">'.encode('shift_jis'), ['/charset/%E3%81%82'],
             'text/html', charset='-')
        page('/charset/utf-16', '<a href="/charset/ü">'.encode('utf-16'), ['/charset/%C3%BC'], 'text/html; charset=UTF-16',
             charset='utf-16')
        page('/charset/unknown', b'<a href="/charset/4">', ['/charset/4'], 'text/html; charset=../x', charset='../x')

    def add_redirects(self, after):
        statuses = (301, 302, 303, 307, 308)
        for i in range(MAX_REDIRECT): # as many as are followed
            self.add_redirect('/chain/%d' % i, '/chain/%d' % (i + 1), statuses[i % 5])
        self.add_html('/chain/%d' % MAX_REDIRECT, after[3:4])
        for i in range(MAX_REDIRECT + 1): # one more
            self.add_redirect('/many/%d' % i, '/many/%d' % (i + 1), note='too many' if i == MAX_REDIRECT else '')
        for i in range(MAX_REDIRECT + 5): # too many, but a page links to /rescued/8
            self.add_redirect('/rescued/%d' % i, '/rescued/%d' % (i + 1))
        self.add_html('/rescued/%d' % (MAX_REDIRECT + 5), after[4:5])
        for here, there in ('a', 'b'), ('b', 'c'), ('c', 'a'), ('self', 'self'):
            self.add_redirect('/loop/' + here, '/loop/' + there, note='a loop')
        self.add_redirect('/loop/into', '/loop/b')
        self.add_redirect('/away', AWAY, note='outside')
        self.add_redirect('/away/https', 'https://127.0.0.1/', note='outside')
        self.add_redirect('/away/broken', 'http://[bad', note='outside')
        self.add('/location/none', send(answer(b'', '302 Found')), Expect(302, size=0))
        self.add('/location/relative', send(answer(b'', '302 Found', ['Location: ../location?to=1#x'])),
                 Expect(302, redirect=self.base + '/location?to=1'))
        self.add_html('/location?to=1')
