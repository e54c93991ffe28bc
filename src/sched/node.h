/* node.h - a waiter in an object's list, and the list. What may be done with them: park.h. */
#ifndef SL_NODE_H
#define SL_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_fiber;

/* A waiter in an object's list; under the object's lock. Of a plain wait it lies on the waiter's stack and only what the object needs is
 * set; of a select it is the caller's own sley_case, of which only `result` and what follows `value` may be written. */
struct sl_wait_node {
    uint32_t             kind;   /* of a select: enum sley_case_kind */
    int32_t              result; /* what the claimer tells the waiter; until then the object's own */
    void                *object; /* of a select */
    void                *data;   /* the object's own: where the value goes to or comes from */
    int64_t              value;  /* the object's own; of a select as the caller set it */
    struct sl_wait_node *next, *prev;
    struct sl_fiber     *fiber;
    uint64_t             tag;    /* SL_WORD_SEQUENCE of the wait, and enum sl_node_flags */
};

/* MANY: its claimer says in the fiber's wait_object which node has won. */
enum sl_node_flags { SL_NODE_LINKED = 1, SL_NODE_WON = 2, SL_NODE_MANY = 4 };

struct sl_wait_list { /* zeroed memory is an empty list */
    struct sl_wait_node *head, *tail;
};

static inline void sl_wait_list_push(struct sl_wait_list *l, struct sl_wait_node *n)
{
    n->next = NULL;
    n->prev = l->tail;
    n->tag |= SL_NODE_LINKED;
    if (l->tail != NULL)
        l->tail->next = n;
    else
        l->head = n;
    l->tail = n;
}

static inline void sl_wait_list_remove(struct sl_wait_list *l, struct sl_wait_node *n)
{
    if (n->prev != NULL)
        n->prev->next = n->next;
    else
        l->head = n->next;
    if (n->next != NULL)
        n->next->prev = n->prev;
    else
        l->tail = n->prev;
    n->tag &= ~(uint64_t)SL_NODE_LINKED;
}

static inline void sl_wait_list_push_front(struct sl_wait_list *l, struct sl_wait_node *n)
{
    n->prev = NULL;
    n->next = l->head;
    n->tag |= SL_NODE_LINKED;
    if (l->head != NULL)
        l->head->prev = n;
    else
        l->tail = n;
    l->head = n;
}

#endif
