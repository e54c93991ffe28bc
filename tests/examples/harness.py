"""What the tests of the example servers share: a server process, and a client that sees every byte."""
import re
import signal
import socket
import subprocess


class Server:
    """A server that prints where it listens. No call here has a time limit: the test runner ends what hangs."""

    def __init__(self, *command, **popen):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **popen)
        line = self.process.stdout.readline()
        match = re.search(r'listening on (?:http://)?(.*):(\d+)/?$', line.strip())
        if match is None:
            self.process.kill()
            raise AssertionError('not listening: %r' % line)
        self.host, self.port = match.group(1).strip('[]'), int(match.group(2))

    def connect(self, receive_bytes=None):
        family = socket.AF_INET6 if ':' in self.host else socket.AF_INET
        s = socket.socket(family, socket.SOCK_STREAM)
        if receive_bytes is not None:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            s.connect((self.host, self.port))
        except OSError:
            s.close()
            raise
        return s

    def send_signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        """The exit status and the rest of the output."""
        output = self.process.communicate()[0]
        return self.process.returncode, output

    def stop(self, number=signal.SIGINT):
        self.send_signal(number)
        return self.wait()


def receive_up_to(s, count):
    """count bytes, or what comes before the end."""
    parts = []
    while count > 0 and (part := s.recv(min(count, 1 << 20))):
        parts.append(part)
        count -= len(part)
    return b''.join(parts)


def receive_exactly(s, count):
    data = receive_up_to(s, count)
    if len(data) < count:
        raise EOFError('%d bytes are missing' % (count - len(data)))
    return data


def receive_all(s):
    return receive_up_to(s, 1 << 62)


class Answer:
    def __init__(self, head, body, complete):
        lines = head.decode('latin-1').split('\r\n')
        match = re.fullmatch(r'HTTP/1\.1 (\d{3}) .+', lines[0])
        assert match, lines[0]
        self.status = int(match.group(1))
        self.headers = {}
        for line in lines[1:]:
            name, value = line.split(': ', 1)
            assert name.lower() not in self.headers, line
            self.headers[name.lower()] = value
        self.body = body
        self.complete = complete


class Client:
    """One connection. What has been received beyond an answer stays for the next."""

    def __init__(self, server, **options):
        self.socket = server.connect(**options)
        self.rest = b''

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode('latin-1'))

    def _more(self):
        part = self.socket.recv(1 << 16)
        self.rest += part
        return bool(part)

    def answer(self, method='GET'):
        """The next answer, or None at the end of the connection."""
        while b'\r\n\r\n' not in self.rest:
            if not self._more():
                assert self.rest == b'', self.rest
                return None
        head, self.rest = self.rest.split(b'\r\n\r\n', 1)
        answer = Answer(head, b'', True)
        if method != 'HEAD' and answer.status not in (100, 304):
            count = int(answer.headers['content-length'])
            answer.body, self.rest = self.rest[:count], self.rest[count:]
            if len(answer.body) < count:
                answer.body += receive_up_to(self.socket, count - len(answer.body))
            answer.complete = len(answer.body) == count
        return answer

    def get(self, target, *headers, method='GET', version='HTTP/1.1'):
        self.send('\r\n'.join(['%s %s %s' % (method, target, version), 'Host: test', *headers, '', '']))
        return self.answer(method)

    def at_end(self):
        return self.rest == b'' and self.socket.recv(1) == b''

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
