/* proxy.h - what main.c and relay.c share: the settings, and what is counted. */
#ifndef PROXY_H
#define PROXY_H

#include <sley.h>
#include <stdatomic.h>

struct proxy {
    const char *to;                  /* address of upstream, looked up anew for each connection */
    sley_time idle_ns, connect_ns;
    sley_sem room;                   /* one permit for each connection that may still be taken */
    atomic_ulong connections, failed; /* that have ended; of these, those that one side or a time limit broke off */
};

extern struct proxy proxy;

/* Fiber: carry one client's connection over to upstream; arg is its descriptor. Takes back its permit at the end. */
int relay_run(void *arg);

void complain(const char *who, const char *what, int error); /* a line on stderr; waits for that, a second at most */

#endif
