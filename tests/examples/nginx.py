"""An nginx for a test, which ./dev fetches into build/nginx. Without one a test ends with status 77, which is a skip.

It runs as an ordinary process: in a folder of its own, in the foreground, on a socket that is made here and handed down, as nginx hands
its sockets to its own successor, so that no port is guessed and nobody need wait until it listens."""
import getpass
import os
import signal
import socket
import subprocess
import sys

CONFIGURATION = r"""
%(user)s
worker_processes 2;
pid %(root)s/pid;
error_log %(root)s/error.log warn;
events { worker_connections 200; }
http {
    log_format test '$request_uri $status $body_bytes_sent $connection';
    access_log %(root)s/access.log test;
    client_body_temp_path %(root)s/body; proxy_temp_path %(root)s/proxy; fastcgi_temp_path %(root)s/fastcgi;
    uwsgi_temp_path %(root)s/uwsgi; scgi_temp_path %(root)s/scgi;
    types { text/html html shtml; text/plain txt; image/png png; }
    charset utf-8; log_not_found off; keepalive_timeout 86400s;
    server {
        listen 127.0.0.1:%(port)d;
        root %(root)s/site;
%(locations)s
    }
}
"""


def program_in(folder):
    """Its path; without it the test is skipped."""
    program = folder + '/usr/sbin/nginx'
    if not os.access(program, os.X_OK):
        print('skipped: there is no nginx at', program)
        sys.exit(77)
    return program


class Nginx:
    """Serves root/site. locations: lines for its server, in which %(port)d is the port."""

    def __init__(self, program, root, locations=''):
        self.program, self.root, self.listener = program, root, socket.create_server(('127.0.0.1', 0), backlog=500)
        self.listener.setblocking(False) # else a worker of nginx waits in accept for a client that another got
        self.port = self.listener.getsockname()[1]
        self.base = 'http://127.0.0.1:%d' % self.port
        user = 'user %s;' % getpass.getuser() if os.geteuid() == 0 else '' # its workers become another without that
        with open(root + '/nginx.conf', 'w') as f:
            f.write(CONFIGURATION % dict(root=root, port=self.port, user=user, locations=locations % dict(port=self.port)))

    def start(self):
        fd = self.listener.fileno()
        self.process = subprocess.Popen([self.program, '-p', self.root, '-c', self.root + '/nginx.conf', '-e', self.root + '/error.log',
                                         '-g', 'daemon off;'], pass_fds=[fd], env=dict(os.environ, NGINX='%d;' % fd))
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
