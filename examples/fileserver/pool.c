/* pool.c - equal buffers, last in, first out, so that a thousand connections that take turns share a few warm ones. */
#include "server.h"
#include <pthread.h>
#include <stdlib.h>

enum { FREE_MAX = 64 }; /* more go back to malloc */

struct free_buffer {
    struct free_buffer *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void *pool_take(struct pool *p)
{
    struct free_buffer *b;

    pthread_mutex_lock(&lock);
    b = p->free;
    if (b != NULL) {
        p->free = b->next;
        p->free_count--;
    }
    pthread_mutex_unlock(&lock);
    return b != NULL ? (void *)b : malloc(p->bytes);
}

void pool_give(struct pool *p, void *buf)
{
    struct free_buffer *b = buf;

    pthread_mutex_lock(&lock);
    if (p->free_count < FREE_MAX) {
        b->next = p->free;
        p->free = b;
        p->free_count++;
        b = NULL;
    }
    pthread_mutex_unlock(&lock);
    free(b);
}

void pool_empty(struct pool *p)
{
    while (p->free != NULL) {
        struct free_buffer *b = p->free;
        p->free = b->next;
        free(b);
    }
}
