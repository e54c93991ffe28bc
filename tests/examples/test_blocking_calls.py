"""No worker of the file server makes a system call that may block: strace shows them all while clients come and go, with files that lie in
the page cache and files that do not, directories, a log and the line of counters; with the ring and without it.

A call is allowed by name, or by what it was told (MSG_DONTWAIT, RWF_NOWAIT, RESOLVE_CACHED...); each says why it does not block. Whatever
is not here fails. Exit status 77, which is a skip, where strace cannot be used."""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

from harness import Client, Server, receive_all

CLIENTS, ROUNDS = 8, 3
LARGE = 3 * 1024 * 1024 + 1
LINE = re.compile(r'(\d+) +(.*)')
CALL = re.compile(r'(\w+)\((.*)', re.DOTALL)

SLEEPS = {'io_uring_enter': 'what a worker sleeps in, and how it hands operations over'}
SLEEPS_OF_EPOLL = {'epoll_pwait2': 'what a worker sleeps in', 'epoll_pwait': 'the same, of older kernels', 'epoll_ctl': 'takes no file'}
NEVER = {
    'accept4': lambda trace, args: trace.is_nonblocking(args),
    'close': 'a socket that does not linger, or a file that was only read: nothing is to be written',
    'clone': 'one more thread for the pool', 'clone3': 'the same',
    'eventfd2': 'makes one',
    'exit': 'the end of the thread', 'exit_group': 'of the process',
    'fcntl': lambda trace, args: re.search(r', F_(GET|SET)F[DL]\b', args), # flags; no lock
    'fstatfs': 'what the file system has in memory',
    'futex': 'a lock that another holds for some instructions, or a wake',
    'getpid': 'a number', 'gettid': 'a number', 'getrandom': 'bytes that are there once the system runs',
    'getsockname': 'what the socket has in memory', 'getsockopt': 'the same',
    'io_uring_register': 'asks for the end of an operation of another ring, and does not wait for it',
    'lseek': 'a number',
    'brk': 'memory', 'madvise': 'memory', 'mmap': 'memory', 'mprotect': 'memory', 'mremap': 'memory', 'munlock': 'memory',
    'munmap': 'memory',
    'membarrier': 'microseconds, for all the others to have met a barrier',
    'openat2': lambda trace, args: 'RESOLVE_CACHED' in args and 'O_CREAT' not in args and 'O_TRUNC' not in args,
    'ppoll': lambda trace, args: '{tv_sec=0, tv_nsec=0}' in args, # a look
    'prctl': 'the name of the thread',
    'preadv2': lambda trace, args: 'RWF_NOWAIT' in args, 'pwritev2': lambda trace, args: 'RWF_NOWAIT' in args,
    'read': lambda trace, args: trace.is_bell(args),
    'recvfrom': lambda trace, args: 'MSG_DONTWAIT' in args, 'recvmsg': lambda trace, args: 'MSG_DONTWAIT' in args,
    'restart_syscall': 'a sleep of this list that strace has interrupted',
    'rseq': 'registers memory', 'set_robust_list': 'the same', 'sigaltstack': 'the same',
    'rt_sigaction': 'signals', 'rt_sigprocmask': 'signals', 'rt_sigreturn': 'signals', 'tgkill': 'signals',
    'sched_getaffinity': 'a set of numbers', 'sched_yield': 'gives the processor to who is ready, and has it back',
    'sendfile': lambda trace, args: trace.is_nonblocking(args) and trace.was_looked_for(args),
    'sendto': lambda trace, args: 'MSG_DONTWAIT' in args, 'sendmsg': lambda trace, args: 'MSG_DONTWAIT' in args,
    'setsockopt': 'a number', 'shutdown': 'a mark on the socket',
    'statx': lambda trace, args: re.match(r'\d+<[^>]*>, "", ', args), # what is open has its inode in memory
    'write': lambda trace, args: trace.is_bell(args),
}


class Trace:
    """The calls of strace's lines, each with the rest of it that came after others' lines."""

    def __init__(self, lines, nonblocking=()):
        self.names, self.calls = {}, [] # of threads; (thread, name of the call, arguments and result)
        self.nonblocking, self.looked_for = set(nonblocking), set() # sockets and events; files of which a page was looked for
        begun = {}
        for line in lines:
            thread, text = LINE.fullmatch(line).groups()
            if text.endswith('<unfinished ...>'):
                begun[thread] = text.removesuffix('<unfinished ...>').rstrip()
                continue
            resumed = re.match(r'<\.\.\. \w+ resumed>', text)
            if resumed:
                text = begun.pop(thread, '') + text[resumed.end():]
            call = CALL.match(text)
            if call:
                self.calls.append((thread, *call.groups()))
        for thread, text in begun.items(): # the last ones of all, in which the threads ended
            self.calls.append((thread, *CALL.match(text).groups()))

    def is_nonblocking(self, args):
        return re.match(r'\d+(<[^>]*>)', args).group(1) in self.nonblocking

    def is_bell(self, args):
        return re.match(r'\d+<anon_inode:\[eventfd\]>', args) and args[:args.index('>') + 1] in self.nonblocking

    def was_looked_for(self, args):
        return re.match(r'\d+<[^>]*>, \d+(<[^>]*>)', args).group(1) in self.looked_for

    def learn(self, thread, name, args):
        """What a call tells of descriptors."""
        made = re.search(r' = \d+(<socket:\[\d+\]>)$', args)
        if name in ('socket', 'accept4') and made and 'SOCK_NONBLOCK' in args:
            self.nonblocking.add(made.group(1))
        elif name == 'eventfd2' and 'EFD_NONBLOCK' in args:
            self.nonblocking.add(args[args.rindex(' ') + 1:])
        elif name == 'preadv2' and 'RWF_NOWAIT' in args: # those that are not there are read otherwise first
            self.looked_for.add(re.match(r'\d+(<[^>]*>)', args).group(1))
        elif name == 'prctl' and (named := re.match(r'PR_SET_NAME, "([^"]*)"', args)):
            self.names[thread] = named.group(1)

    def judge(self, allowed):
        """From where the server listens: the calls of workers that are not allowed, all that they made, and all that the pool made."""
        wrong, by_workers, by_pool, listens = [], {}, {}, False
        for thread, name, args in self.calls:
            self.learn(thread, name, args)
            role = self.names.get(thread, '')
            if listens and re.fullmatch(r'sley/\d+', role):
                by_workers[name] = by_workers.get(name, 0) + 1
                rule = allowed.get(name)
                if rule is None or (callable(rule) and not rule(self, args)):
                    wrong.append('%s: %s(%s' % (role, name, args))
            elif listens and re.fullmatch(r'sley/b\d+', role):
                by_pool[name] = by_pool.get(name, 0) + 1
            listens = listens or (name == 'write' and '"listening on ' in args)
        return wrong, by_workers, by_pool


def strace(output):
    return ['strace', '-D', '-f', '-y', '-s', '24', '-o', output]


class BlockingCalls(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.root = self.folder + '/root'
        os.makedirs(self.root + '/sub')
        self.files = {'small': b'small\n', 'large': os.urandom(LARGE), 'cold': os.urandom(LARGE), 'sub/page.html': b'<p>', 'empty': b''}
        for name, data in self.files.items():
            with open(self.root + '/' + name, 'wb') as f:
                f.write(data)
        os.symlink('small', self.root + '/link') # a name that the listing must look at

    def make_cold(self, name):
        with open(self.root + '/' + name, 'rb') as f:
            os.fsync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def look_at_sockets(self, pid):
        """Note those that do not block: what the ring has accepted, strace has not seen."""
        for fd in os.listdir('/proc/%d/fd' % pid):
            try:
                name = os.readlink('/proc/%d/fd/%s' % (pid, fd))
                with open('/proc/%d/fdinfo/%s' % (pid, fd)) as f:
                    flags = int(re.search(r'^flags:\s*(\d+)$', f.read(), re.MULTILINE).group(1), 8)
                if name.startswith('socket:') and flags & os.O_NONBLOCK and name == os.readlink('/proc/%d/fd/%s' % (pid, fd)):
                    self.nonblocking.add('<%s>' % name)
            except FileNotFoundError: # closed meanwhile
                pass

    def visit(self, server, wrong):
        for _ in range(ROUNDS):
            with Client(server) as client:
                client.get('/small')
                self.look_at_sockets(server.process.pid)
                for name, data in self.files.items():
                    if client.get('/' + name).body != data:
                        wrong.append(name)
                    client.get('/' + name, method='HEAD')
                statuses = [client.get(target).status for target in ('/', '/sub/', '/sub', '/none', '/none/at/all', '/link')]
                statuses.append(client.get('/large', 'Range: bytes=100-70000').status)
                if statuses != [200, 200, 301, 404, 404, 200, 206]:
                    wrong.append(statuses)
            with Client(server) as client: # one that leaves in the middle
                client.send('GET /large HTTP/1.1\r\nHost: x\r\n\r\n')
                client.socket.recv(1000)
                self.look_at_sockets(server.process.pid)
            with Client(server) as client: # and one that says nothing sensible
                client.send('what?\r\n\r\n')
                receive_all(client.socket)

    def run_server(self, backend):
        output = self.folder + '/trace'
        server = Server(*strace(output), PROGRAM, '--port', '0', '--stats', '--log', self.folder + '/log', self.root,
                        env=dict(os.environ, SLEY_BACKEND=backend, SLEY_WORKERS='2', SLEY_CHAOS='none'))
        self.make_cold('cold')
        wrong, self.nonblocking = [], set()
        threads = [threading.Thread(target=self.visit, args=(server, wrong)) for _ in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])
        pid = server.process.pid
        self.assertEqual(server.stop(signal.SIGTERM)[0], 0)
        while True: # strace is nobody's child here; the last line that it writes is the server's end
            with open(output) as f:
                lines = f.read().splitlines()
            if lines and re.fullmatch(r'%d +\+\+\+ exited with 0 \+\+\+' % pid, lines[-1]):
                return Trace(lines, self.nonblocking)

    def test_with_the_ring(self):
        trace = self.run_server('auto')
        if not any(name == 'io_uring_setup' and re.search(r'= \d+<', args) for _, name, args in trace.calls):
            self.skipTest('io_uring is refused here')
        wrong, by_workers, by_pool = trace.judge({**NEVER, **SLEEPS})
        self.assertEqual(wrong, [])
        for name in ('io_uring_enter', 'recvfrom', 'sendfile', 'preadv2', 'openat2'):
            self.assertIn(name, by_workers)
        self.assertIn('getdents64', by_pool)

    def test_without_a_ring(self):
        wrong, by_workers, by_pool = self.run_server('epoll').judge({**NEVER, **SLEEPS_OF_EPOLL})
        self.assertEqual(wrong, [])
        self.assertTrue({'epoll_pwait2', 'epoll_pwait'} & set(by_workers))
        for name in ('recvfrom', 'sendfile', 'preadv2', 'openat2'):
            self.assertIn(name, by_workers)
        for name in ('getdents64', 'statx'):
            self.assertIn(name, by_pool)

    def test_what_blocks_is_found(self):
        """Of each kind one line that must be refused, and one that must not."""
        lines = ['7 prctl(PR_SET_NAME, "sley/0") = 0', '8 prctl(PR_SET_NAME, "sley/b0") = 0',
                 '7 write(1<pipe:[1]>, "listening on http://127.0"..., 36) = 36']
        bad = ['read(9</a>, "x", 1) = 1', 'recvfrom(9<socket:[1]>, "x", 1, 0, NULL, NULL) = 1', 'poll([{fd=1}], 1, -1) = 1',
               'sendto(9<socket:[1]>, "x", 1, MSG_NOSIGNAL, NULL, 0) = 1', 'write(9</a>, "x", 1) = 1', 'fsync(9</a>) = 0',
               'openat(AT_FDCWD</>, "a", O_RDONLY) = 9</a>', 'statx(AT_FDCWD</>, "a", 0, STATX_TYPE, {}) = 0', 'nanosleep({}, NULL) = 0',
               'openat2(8</>, "a", {flags=O_RDONLY, resolve=RESOLVE_BENEATH}, 24) = 9</a>', 'preadv2(9</a>, [], 1, 0, 0) = 0',
               'sendfile(9<socket:[5]>, 10</a>, [0] => [1], 1) = 1', 'read(3<anon_inode:[eventfd]>, "", 8) = 8',
               'accept4(9<socket:[5]>, NULL, NULL, 0) = 10<socket:[6]>',
               'getdents64(9</a>, 0x1 /* 0 entries */, 32768) = 0', 'fcntl(9</a>, F_SETLKW, {}) = 0']
        good = ['preadv2(10</a>, [{}], 1, 0, RWF_NOWAIT) = 1', 'accept4(9<socket:[1]>, NULL, NULL, SOCK_NONBLOCK) = 10<socket:[7]>',
                'sendfile(9<socket:[7]>, 10</a>, [0] => [1], 1) = 1', 'recvfrom(9<socket:[7]>, "x", 1, MSG_DONTWAIT, NULL, NULL) = 1']
        allowed = {**NEVER, **SLEEPS}
        for line in bad:
            self.assertEqual(len(Trace(lines + ['7 ' + line]).judge(allowed)[0]), 1, line)
            self.assertEqual(Trace(lines + ['8 ' + line]).judge(allowed)[0], [], line) # the pool is there for it
        self.assertEqual(Trace(lines + ['7 ' + line for line in good], ['<socket:[1]>']).judge(allowed)[0], [])
        halves = ['7 recvfrom(9<socket:[1]>,  <unfinished ...>', '8 fsync(9</a>) = 0', '7 <... recvfrom resumed>"x", 1, 0, NULL, NULL) = 1']
        self.assertEqual(len(Trace(lines + halves).judge(allowed)[0]), 1)


def can_trace():
    if shutil.which('strace') is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(['strace', '-f', '-o', folder + '/trace', 'true'], stderr=subprocess.DEVNULL).returncode == 0


if __name__ == '__main__':
    PROGRAM = sys.argv.pop(1)
    if not can_trace():
        print('skipped: there is no strace, or it may not trace')
        sys.exit(77)
    unittest.main(verbosity=2)
