"""Sockets of every kind between the program peer, which is Sley's, and socat or Python's socket module, which are not; each once as the
server and once as the client. Every byte and every message is compared. test_peer.py PROGRAM."""
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

PEER = sys.argv.pop(1)
SEED = random.SystemRandom().randrange(1 << 32)
UDP_BYTES_MAX = 65507
TYPES = {'stream': socket.SOCK_STREAM, 'dgram': socket.SOCK_DGRAM, 'seqpacket': socket.SOCK_SEQPACKET}


def setUpModule():
    print('seed', SEED) # of all sizes and contents


def messages(rng, bytes_max, count=40):
    sizes = [1, 2, 1000, bytes_max] + [rng.randrange(1, bytes_max + 1) if i % 2 else rng.randrange(1, 2000) for i in range(count)]
    return [rng.randbytes(size) for size in sizes]


def receive_exactly(read, count):
    data = b''
    while len(data) < count and (part := read(count - len(data))):
        data += part
    return data


class Case(unittest.TestCase):
    def setUp(self):
        self.rng = random.Random(SEED)
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.unix = 'unix:' + self.folder + '/socket'

    def start(self, *command, **kwargs):
        process = subprocess.Popen(command, **kwargs)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.terminate()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def peer(self, command, type_, address):
        """A server of Sley's; its address. At its end it must be content, and have no descriptor more than at its beginning."""
        process = subprocess.Popen([PEER, command, type_, address], stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        self.assertTrue(line.startswith('listening on '), line)
        before = len(os.listdir('/proc/%d/fd' % process.pid))
        self.addCleanup(self.end_peer, process, before)
        return line.split()[2]

    def end_peer(self, process, before):
        while process.poll() is None and len(os.listdir('/proc/%d/fd' % process.pid)) != before:
            os.sched_yield()
        process.terminate()
        process.stdout.close()
        self.assertEqual(process.wait(), 0)

    def exchange(self, process, data):
        """Send data to the standard input of a process, end it, and have all that comes out."""
        sender = threading.Thread(target=lambda: (process.stdin.write(data), process.stdin.close()))
        sender.start()
        got = process.stdout.read()
        sender.join()
        return got


class Socat(Case):
    def setUp(self):
        if shutil.which('socat') is None:
            self.skipTest('no socat')
        super().setUp()

    def socat(self, *addresses, says):
        """A server of socat's, once it has said on stderr that it is there; the match."""
        process = self.start('socat', '-d', '-d', '-b65536', '-t', '3600', *addresses, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while line := process.stderr.readline().decode():
            if match := re.search(says, line):
                threading.Thread(target=process.stderr.read).start() # the rest is of no interest, but must not fill the pipe
                return process, match
        self.fail('socat did not start: ' + process.stderr.read().decode())

    def udp_port(self, process):
        """Where it receives: it says 0."""
        while True:
            inodes = set()
            for fd in os.listdir('/proc/%d/fd' % process.pid):
                inodes.add(os.readlink('/proc/%d/fd/%s' % (process.pid, fd)))
            with open('/proc/net/udp') as table:
                for line in table.read().splitlines()[1:]:
                    fields = line.split()
                    if 'socket:[%s]' % fields[9] in inodes:
                        return int(fields[1].split(':')[1], 16)

    def client_of_sley(self, *addresses):
        return self.start('socat', '-b65536', '-t', '3600', *addresses, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def one_by_one(self, process, data):
        """Each message comes back before the next goes, so socat's reads of its standard input are the messages."""
        for i, message in enumerate(data):
            process.stdin.write(message)
            self.assertTrue(receive_exactly(process.stdout.read, len(message)) == message, (i, len(message)))

    def sley_is_client(self, type_, address, data):
        """Each message goes to an echo of socat's."""
        process = self.start(PEER, 'connect', type_, address, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        back = self.exchange(process, b''.join(len(m).to_bytes(4, 'big') + m for m in data))
        self.assertEqual(process.wait(), 0)
        for i, message in enumerate(data):
            size = int.from_bytes(back[:4], 'big')
            self.assertTrue(back[4:4 + size] == message, (i, len(message), size))
            back = back[4 + size:]
        self.assertEqual(back, b'')

    def stream_as_server(self, listen_at, connect_to):
        address = self.peer('serve', 'stream', listen_at)
        for size in [0, 1, 100000, self.rng.randrange(3000000), 5000011]:
            data = self.rng.randbytes(size)
            self.assertTrue(self.exchange(self.client_of_sley('-', connect_to(address)), data) == data, size)

    def stream_as_client(self, address, *, times):
        for size in [0, 1, 100000, self.rng.randrange(3000000), 5000011][:times]:
            data = self.rng.randbytes(size)
            process = self.start(PEER, 'connect', 'stream', address, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.assertTrue(self.exchange(process, data) == data, size)
            self.assertEqual(process.wait(), 0)

    def test_tcp_sley_is_the_server(self):
        self.stream_as_server('127.0.0.1:0', lambda address: 'TCP:' + address)

    def test_tcp_sley_is_the_client(self):
        _, match = self.socat('TCP4-LISTEN:0,bind=127.0.0.1,fork', 'EXEC:cat', says=r'listening on AF=2 (127\.0\.0\.1:\d+)')
        self.stream_as_client(match.group(1), times=5)

    def test_unix_stream_sley_is_the_server(self):
        self.stream_as_server(self.unix, lambda address: 'UNIX-CONNECT:' + address[5:])

    def test_unix_stream_sley_is_the_client(self):
        self.socat('UNIX-LISTEN:%s,fork' % self.unix[5:], 'EXEC:cat', says='listening on AF=1')
        self.stream_as_client(self.unix, times=5)

    def test_udp_sley_is_the_server(self):
        address = self.peer('serve', 'dgram', '127.0.0.1:0')
        for _ in range(3):
            self.one_by_one(self.client_of_sley('-', 'UDP:' + address), messages(self.rng, UDP_BYTES_MAX))

    def test_udp_sley_is_the_client(self):
        process, _ = self.socat('UDP4-RECVFROM:0,bind=127.0.0.1,fork', 'PIPE', says='receiving on AF=2')
        self.sley_is_client('dgram', '127.0.0.1:%d' % self.udp_port(process), messages(self.rng, 60000))

    def test_unix_datagrams_sley_is_the_server(self):
        address = self.peer('serve', 'dgram', self.unix)
        for i in range(3):
            client = self.client_of_sley('-', 'UNIX-SENDTO:%s,bind=%s' % (address[5:], self.folder + '/client%d' % i))
            self.one_by_one(client, messages(self.rng, 65536))

    def test_unix_datagrams_sley_is_the_client(self):
        self.socat('UNIX-RECVFROM:%s,fork' % self.unix[5:], 'PIPE', says='receiving on AF=1')
        self.sley_is_client('dgram', self.unix, messages(self.rng, 60000))

    def test_unix_packets_sley_is_the_server(self):
        address = self.peer('serve', 'seqpacket', self.unix)
        for _ in range(3):
            self.one_by_one(self.client_of_sley('-', 'UNIX-CONNECT:%s,socktype=5' % address[5:]), messages(self.rng, 65536))

    def test_unix_packets_sley_is_the_client(self):
        self.socat('UNIX-LISTEN:%s,socktype=5,fork' % self.unix[5:], 'PIPE', says='listening on AF=1')
        for _ in range(3):
            self.sley_is_client('seqpacket', self.unix, messages(self.rng, 60000))


class Descriptors(Case):
    """Python passes descriptors to Sley, which reads what is in them, and passes them back."""

    def files(self, count):
        """Files and pipes, and what is in each."""
        fds, contents = [], []
        for i in range(count):
            data = self.rng.randbytes(self.rng.randrange(1, 200))
            if i % 3 == 0:
                fd, writer = os.pipe()
                os.write(writer, data)
                os.close(writer)
            else:
                fd = os.open(self.folder, os.O_RDWR | os.O_TMPFILE)
                os.write(fd, data)
            fds.append(fd)
            contents.append(data)
        return fds, contents

    def exchange_files(self, s, count):
        fds, contents = self.files(count)
        socket.send_fds(s, [b'these'], fds)
        data, back, _, _ = socket.recv_fds(s, 65536, count + 1)
        expected = b''.join(contents)
        while s.type == socket.SOCK_STREAM and len(data) < len(expected):
            data += s.recv(65536)
        self.assertEqual(data, expected)
        self.assertEqual(len(back), count)
        for fd, same in zip(fds, back):
            self.assertTrue(os.path.samestat(os.fstat(fd), os.fstat(same)))
            os.close(fd)
            os.close(same)

    def pass_files(self, type_):
        address = self.peer('files', type_, self.unix)
        with socket.socket(socket.AF_UNIX, TYPES[type_]) as s:
            s.bind(self.folder + '/client')
            s.connect(address[5:])
            for count in [1, 2, 253] + [self.rng.randrange(1, 254) for _ in range(10)]:
                self.exchange_files(s, count)

    def test_over_a_stream(self):
        self.pass_files('stream')

    def test_over_datagrams(self):
        self.pass_files('dgram')

    def test_over_packets(self):
        self.pass_files('seqpacket')


if __name__ == '__main__':
    unittest.main(verbosity=2)
