"""A server of a few pages, each of which is a function that may do to its client whatever a server can do."""
import socket
import struct
import threading


def answer(body=b'', status='200 OK', headers=(), type='text/html; charset=utf-8'):
    lines = ['HTTP/1.1 ' + status, *(['Content-Type: ' + type] if type else []), 'Content-Length: %d' % len(body), *headers, '', '']
    return '\r\n'.join(lines).encode('latin-1') + body


def chunks(parts, trailer=b''):
    return b''.join(b'%x;name="value"\r\n%s\r\n' % (len(part), part) for part in parts) + b'0\r\n' + trailer + b'\r\n'


def send(data, more=True):
    """A page that is nothing but these bytes."""
    def page(_server, connection, _before):
        connection.sendall(data)
        return more
    return page


def be_silent(server, connection, _before):
    server.silent.release()
    connection.recv(1) # until the client leaves
    return False


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    return False


class PageServer:
    """pages: a function for each target, of (server, connection, how many requests for the target there were before), which sends an
    answer and returns whether the connection may live on."""

    def __init__(self, pages=()):
        self.pages = dict(pages)
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=1000)
        self.base = 'http://127.0.0.1:%d' % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.requests, self.connections = {}, 0
        self.silent = threading.Semaphore(0) # one for each request that met be_silent
        self.ending = threading.Event()
        self.threads = []

    def __enter__(self):
        self.start(self.accept)
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads: # those that are added meanwhile come along
            thread.join()
        self.listener.close()

    def start(self, fn, *args):
        thread = threading.Thread(target=fn, args=args)
        self.threads.append(thread)
        thread.start()

    def accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            self.start(self.serve, connection)

    def serve(self, connection):
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            rest, alive = b'', True
            while alive:
                try:
                    while b'\r\n\r\n' not in rest:
                        part = connection.recv(65536)
                        if not part:
                            return
                        rest += part
                    head, rest = rest.split(b'\r\n\r\n', 1)
                    alive = self.respond(connection, head.decode('latin-1'))
                except OSError: # the client has gone
                    return

    def respond(self, connection, head):
        method, target, _ = head.split('\r\n')[0].split(' ')
        assert method == 'GET' and '\r\nHost: %s\r\n' % self.base[len('http://'):] in head, head
        with self.lock:
            before = self.requests.get(target, 0)
            self.requests[target] = before + 1
        return self.pages.get(target, send(answer(b'none\n', '404 Not Found', type='text/plain')))(self, connection, before)
