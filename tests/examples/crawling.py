"""A run of the crawler, and its report taken apart."""
import re
import subprocess

from misbehave import MAX_BYTES, MAX_REDIRECT, MAX_TRIES
from website import reachable

LIMITS = ['--max-bytes', str(MAX_BYTES), '--max-tries', str(MAX_TRIES), '--max-redirect', str(MAX_REDIRECT), '--timeout', '86400']
LINE = re.compile(r'(http://\S+) (.+)')
FINISHED = re.compile(r'Finished (\d+) urls in \d+\.\d{3} secs \(workers=(\d+)\) \(\d+\.\d urls/sec\)')
PROGRESS = re.compile(r'crawler: \d+ urls done, \d+ waiting, \d+ s')


class Report:
    def __init__(self, status, output, errors):
        self.status, self.errors = status, [line for line in errors.splitlines() if PROGRESS.fullmatch(line) is None]
        first, *rest = output.splitlines()
        assert first == '*** Report ***', output
        self.lines, self.counts, self.others, self.new_links = {}, {}, [], 0
        previous = ''
        for line in rest:
            page, count = LINE.fullmatch(line), re.fullmatch(r' *(\d+)  (\S+)', line)
            if page is not None:
                url = page.group(1)
                assert url.encode() > previous.encode(), 'not sorted, or twice: ' + line
                previous = url
                links = re.search(r' (\d+)/(\d+)$', line)
                if links is not None:
                    self.new_links += int(links.group(1))
                self.lines[url] = re.sub(r' \d+/(\d+)$', r' \1', line)
            elif count is not None:
                self.counts[count.group(2)] = int(count.group(1))
            else:
                self.others.append(line)
        self.finished, self.workers = (int(n) for n in self.only(FINISHED).groups())
        self.todo, self.done = (int(self.only(re.compile(word + r': (\d+)')).group(1)) for word in ('Todo', 'Done'))

    def only(self, pattern):
        found = [match for match in map(pattern.fullmatch, self.others) if match is not None]
        assert len(found) == 1, (pattern, self.others)
        return found[0]


def crawl(program, *args):
    done = subprocess.run([program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return Report(done.returncode, done.stdout, done.stderr)


def expected_counts(expect, lines):
    """The counts by kind that belong to the lines of a report that is right."""
    counts = {}

    def add(name, n=1):
        if n > 0:
            counts[name] = counts.get(name, 0) + n

    names = {'Connection reset by peer': 'ECONNRESET', 'Connection refused': 'ECONNREFUSED', 'Protocol error': 'EPROTO',
             'Message too long': 'EMSGSIZE', 'File too large': 'EFBIG', 'Operation not supported': 'EOPNOTSUPP', 'Bad message': 'EBADMSG'}
    for url, e in expect.items():
        add(e.kind)
        if e.kind == 'fail':
            add('fail_' + names[e.error])
        elif e.kind == 'redirect':
            add('redirect_' + e.note.replace('a ', '').replace(' ', '_'), bool(e.note))
        else:
            add(e.kind + '_bytes', int(lines[url].split(' ')[4]))
            add('status_%d' % e.status, e.kind == 'error')
    return counts


def check_site(test, report, universe, sizes, asked):
    """The report says what it should of each URL of the universe that can be come to from the first page, and of no others; and each was
    asked for as often as it should. asked: by the beginning of the URLs, that of the site first, how often each target was; sizes: of
    bodies, where the server knows them."""
    if report.errors:
        test.fail('\n'.join(['it says', *report.errors]))
    base = next(iter(asked))
    expect = reachable(universe, [base + '/'])
    for server, targets in asked.items():
        test.assertEqual(targets, {url[len(server):]: e.requests for url, e in expect.items() if url.startswith(server + '/')})
    test.assertGreaterEqual(sum(e.kind == 'html' and url.startswith(base + '/') for url, e in expect.items()), 2000)

    lines = {url: e.line(url, sizes.get(url)) for url, e in expect.items()}
    pairs = [(report.lines.get(url), lines.get(url)) for url in lines.keys() | report.lines.keys()]
    test.assertEqual([(got, wanted) for got, wanted in pairs if got != wanted], [])
    test.assertEqual((report.status, report.finished, report.todo, report.done), (0, len(lines), 0, len(lines)))
    test.assertEqual(report.counts, expected_counts(expect, lines))
    redirects = sum(e.kind == 'redirect' for e in expect.values()) # each may have been the first to lead to a page
    test.assertTrue(len(lines) - 1 - redirects <= report.new_links <= len(lines) - 1, report.new_links)
