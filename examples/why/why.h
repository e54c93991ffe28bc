/* why.h - one server three times, to see what a waiting client costs: ../../docs/why-coroutines.md has the figures, bench/why measures.
 *
 *   threads.c      a thread a client, calls that block        coroutines.py  a coroutine a client, asyncio
 *   fibers.c       a fiber a client, Sley                     clients.c      the clients, all of them in one process
 *   crosswise.c    no server: two locks taken crosswise       common.c       what the three programs in C share
 *
 *   $ fibers 7777 10000
 *   listening on 127.0.0.1:7777
 *   10000 clients served, 10000 requests answered
 *
 * The three do the same work. For each of so many connections: send READY, then read REQUEST_BYTES and send them back, until the client
 * ends its side. READY is sent by the client's own thread, fiber or coroutine, just before it waits; so a client that has it knows that it
 * is waited for. A client that no thread or fiber can be had for is hung up on without it, and a line says how many were there
 * before, and why no more. With the last client the server ends. */
#ifndef WHY_H
#define WHY_H

#include <stdint.h>

enum {
    REQUEST_BYTES = 64,
    READY = '!',
    SPARE_FDS = 64, /* not for clients: the listener, the rings, libraries */
};

struct arguments {
    uint16_t port;
    long     clients, more; /* more: what the program says it is */
};

/* PORT CLIENTS and, if `more` is not NULL, one more number that may be left out (then 0). Exits if they are none. */
struct arguments read_arguments(int argc, char **argv, const char *more);

/* So many descriptors for clients, or exit and say what to do. */
void need_descriptors(long clients);

/* A listener at 127.0.0.1, announced on standard output; 0: a port that is free. -1: said why not. */
int listen_at(uint16_t port);

void print_refused(long served, int error); /* the first client that is refused */
void print_served(long served, long answered);

#endif
