"""A web site that is the same every time, written as files, and what a crawler must say of each URL on it.

The links are spelled in every way that links are; what each means is known here because it is made from what it means, never the other
way round, so that no code of the crawler's kind checks the crawler."""
import os
import posixpath
import random
import urllib.parse

TREE, CHAIN, AFTER, ORPHANS = 1794, 200, 6, 50  # 2,000 pages that can be come to, and some that cannot


class Expect:
    """What the report says of one URL, and where the crawler goes from there."""

    def __init__(self, status=200, type='text/html', charset='utf-8', size=None, links=(), redirect=None, note='', error=None, requests=1):
        self.status, self.type, self.charset, self.size, self.links = status, type, charset, size, list(links)
        self.redirect, self.note, self.error, self.requests = redirect, note, error, requests

    @property
    def kind(self):
        if self.error is not None:
            return 'fail'
        if self.redirect is not None:
            return 'redirect'
        return 'error' if self.status != 200 else 'html' if self.type in ('text/html', 'application/xhtml+xml') else 'other'

    def line(self, url, size):
        """The line of the report. size: of the body as the server says, where nothing else is known."""
        if self.kind == 'fail':
            return '%s error %s (%d %s)' % (url, self.error, self.requests, 'try' if self.requests == 1 else 'tries')
        if self.kind == 'redirect':
            return '%s %d redirect %s%s' % (url, self.status, self.redirect, ' (%s)' % self.note if self.note else '')
        line = '%s %d %s %s %s' % (url, self.status, self.type, self.charset, size if self.size is None else self.size)
        return line + ' %d' % len(self.links) if self.kind == 'html' else line

    def leads_to(self):
        if self.kind == 'redirect':
            return [] if self.note in ('outside', 'too many') else [self.redirect]
        return self.links if self.kind == 'html' else []


def reachable(universe, roots):
    """Those URLs of the universe, a dictionary of Expect, that can be come to. Every link on it leads to one of them."""
    found, todo = {}, list(roots)
    while todo:
        url = todo.pop()
        if url not in found:
            found[url] = universe[url]
            todo += universe[url].leads_to()
    return found


def html(title, *parts):
    return ('<!DOCTYPE html>\n<html><head><title>%s</title></head>\n<body>\n%s\n</body></html>\n' % (title, '\n'.join(parts))).encode()


def anchors(urls):
    return ''.join('<a href="%s">x</a>\n' % url.replace('&', '&amp;') for url in urls)


def quote(path):
    """A path in the spelling of the report."""
    return urllib.parse.quote(path, safe="/~!$&'()*+,;=:@")


class Site:
    def __init__(self, base, first_links=(), error_type=('text/plain', 'utf-8'), seed=1):
        """base: 'http://HOST:PORT'; first_links: URLs that the first page links to as well; error_type: of the page of a 404."""
        self.base, self.error_type, self.random = base, error_type, random.Random(seed)
        self.files = {} # name, not escaped: content
        self.links = {} # name: the URLs linked to
        self.orphans = ['orphan/%d.html' % i for i in range(ORPHANS)]
        names = [self.name(i) for i in range(TREE)]
        targets = [[] for _ in names]
        for i in range(1, TREE):
            targets[(i - 1) // 2].append(names[i])
        for i in range(TREE):
            targets[i] += [names[self.random.randrange(TREE)] for _ in range(3)] # loops of every length
            if i % 7 == 0:
                targets[i].append(self.add_asset(i))
            if i % 50 == 0:
                targets[i].append('missing/%d.html' % i)
        targets[0].append('chain/0.html')
        for i, name in enumerate(names):
            self.add_page(name, targets[i], first_links if i == 0 else (), self.trap(i))
        for i in range(CHAIN):
            self.add_page('chain/%d.html' % i, ['chain/%d.html' % (i + 1)] if i + 1 < CHAIN else [])
        for i in range(AFTER): # for another server to link to
            self.add_page('after/%d.html' % i, [names[i]])
        for name in self.orphans:
            self.add_page(name, [])

    @staticmethod
    def name(i):
        if i == 0:
            return 'index.html'
        return ('page/%d.html' % i, 'dir/%d/index.html' % i, 'a/b%d/c d/%d 100%%.html' % (i % 10, i), 'ünï/cödé %d.html' % i,
                "odd/%d+;&='~.html" % i)[i % 5]

    def url(self, name):
        path = name[:-len('index.html')] if posixpath.basename(name) == 'index.html' else name
        return self.base + '/' + quote(path)

    def add_asset(self, i):
        name = 'asset/%d.%s' % (i, ('txt', 'png')[i % 2])
        self.files[name] = bytes(self.random.randrange(256) for _ in range(self.random.randrange(500)))
        return name

    def add_page(self, name, targets, urls=(), trap=''):
        urls, parts = list(urls), [trap, anchors(urls)]
        for target in targets:
            url = self.variant(name, target)
            urls.append(url)
            parts.append(self.element(self.spell(name, url)))
        self.links[name] = urls
        self.files[name] = html(quote(name), *parts, '<p>' + 'padding ' * self.random.randrange(250))

    # --- what a link means, and how it is spelled ---------------------------------------------------------------------------------

    def variant(self, source, target):
        """A URL of the target: a directory without its slash, which the server redirects, or with a query, which makes it another."""
        url = self.url(target)
        if target.startswith('dir/') and source != target and self.random.random() < 0.3:
            return url[:-1]
        if target.startswith('page/') and self.random.random() < 0.1:
            return url + '?v=%d&w=a/../b' % self.random.randrange(2)
        return url

    def spell(self, source, url):
        path, question, query = url[len(self.base):].partition('?')
        way = self.random.choice([self.absolute, self.relative, self.roundabout, self.unescaped, self.escaped])
        return way(source, path) + question + query + self.random.choice(['', '', '#part', '#/../x?y'])

    def absolute(self, _, path):
        return self.random.choice([self.base, self.base.replace('http://', 'HTTP://'), self.base[len('http:'):], '']) + path

    def relative(self, source, path):
        return posixpath.relpath(path, '/' + quote(posixpath.dirname(source))) + ('/' if path.endswith('/') else '')

    def roundabout(self, source, path):
        return self.random.choice(['./', 'no/../', 'no/./such/../../', '%2E/', '././/']) + self.relative(source, path)

    def unescaped(self, _, path):
        return urllib.parse.unquote(path)

    def escaped(self, _, path):
        """More than need be, and in small letters."""
        return ''.join('%%%02x' % b if b > 0x7e or chr(b) in ' %' or (chr(b).isalnum() and self.random.random() < 0.3) else chr(b)
                       for b in urllib.parse.unquote_to_bytes(path))

    def element(self, text):
        text = text.replace('&', '&amp;').replace('"', '&quot;')
        ways = ['<a href="%s">x</a>', '<A HREF="%s">x</A>', '<p>text <a class=x href = "\n%s ">x</a> more', '<area href="%s">',
                '<iframe src="%s"></iframe>']
        if not set(text) & set(' \'"=`<>'):
            ways.append('<a href=%s >x</a>')
        return self.random.choice(ways) % text

    def trap(self, i):
        """What looks like a link and is none, or leads away."""
        orphan = '/' + self.orphans[i % ORPHANS]
        return ('<!-- <a href="%s">comment</a> -->' % orphan, '<script>var x = \'<a href="%s">script</a>\';</script>' % orphan,
                '<p data-href="%s" title="%s">&lt;a href="%s"&gt;</p>' % (orphan, orphan, orphan),
                '<a href="https://127.0.0.1%s">https</a> <a href="mailto:a@b">mail</a> <a href="javascript:void(0)">script</a>' % orphan,
                '<a href="http://203.0.113.1/">away</a> <a href="http://[bad/">bad</a> <a href>none</a> <a name="x">none</a>')[i % 5]

    # --- what comes of it ---------------------------------------------------------------------------------------------------------

    def expect(self):
        """Of every file, and of every URL of this site that a page links to."""
        urls = [self.url(name) for name in self.files]
        urls += [url for links in self.links.values() for url in links if url.startswith(self.base + '/')]
        universe = {url: self.expect_of(url) for url in urls}
        universe.update({e.redirect: self.expect_of(e.redirect) for e in list(universe.values()) if e.redirect is not None})
        return universe

    def expect_of(self, url):
        name = urllib.parse.unquote(url[len(self.base) + 1:].partition('?')[0])
        if name == '' or name.endswith('/'):
            name += 'index.html'
        if name in self.links:
            return Expect(size=len(self.files[name]), links=self.links[name])
        if name in self.files:
            return Expect(200, *(('text/plain', 'utf-8') if name.endswith('.txt') else ('image/png', '-')), size=len(self.files[name]))
        if name + '/index.html' in self.files:
            return Expect(301, redirect=url + '/')
        return Expect(404, *self.error_type)

    def write(self, root):
        for name, data in self.files.items():
            path = os.path.join(os.fsencode(root), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, 'wb') as f:
                f.write(data)
