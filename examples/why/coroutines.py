#!/usr/bin/env python3
"""A coroutine a client, asyncio: see why.h.

usage: coroutines.py PORT CLIENTS"""
import asyncio
import resource
import sys

REQUEST_BYTES, READY, SPARE_FDS = 64, b'!', 64

served = ended = answered = 0


def need_descriptors(clients):
    need, hard = clients + SPARE_FDS, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < need:
        sys.exit(f'{clients} clients need {need} descriptors in this process, and its hard limit is {hard}: ask for fewer clients, or '
                 f'raise the limit as root (ulimit -Hn {need}; for good: nofile in /etc/security/limits.conf, or LimitNOFILE= of a '
                 'systemd unit)')
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def main(port, clients):
    all_ended = asyncio.Event()

    async def serve(reader, writer):
        global served, ended, answered
        served += 1
        try:
            writer.write(READY)
            while True:
                request = await reader.readexactly(REQUEST_BYTES)
                writer.write(request)
                await writer.drain()
                answered += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client's end
        finally:
            writer.close()
            ended += 1
            if ended == clients:
                all_ended.set()

    server = await asyncio.start_server(serve, '127.0.0.1', port, backlog=4096)
    print('listening on 127.0.0.1:%d' % server.sockets[0].getsockname()[1], flush=True)
    await all_ended.wait()
    server.close()
    print(f'{served} clients served, {answered} requests answered')


if __name__ == '__main__':
    if len(sys.argv) != 3 or not all(word.isascii() and word.isdigit() for word in sys.argv[1:]) or int(sys.argv[2]) == 0:
        sys.exit(f'usage: {sys.argv[0]} PORT CLIENTS')
    need_descriptors(int(sys.argv[2]))
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
