/* local.c - fiber-local values: keys of the process, and a small table a fiber or plain thread (sley/fiber.h).
 *
 *   L1  keys[k].tag is (round, state); it is FREE, TAKEN (by who creates it) or LIVE, and every LIVE one of a key is another: the round
 *       moves on when it is destroyed. A value carries its key's tag, so a value of an older round is never found and never dropped.
 *   L2  A table is its fiber's or thread's own: a plain open table whose slots are found from key & mask on, within PROBES. A slot's tag
 *       never becomes 0 again, so a search ends at 0. A slot whose value is NULL or whose tag is dead may be taken over.
 *   L3  At SL_LOCAL_KEYS_MAX slots every value stands in its own place, key & mask, so there is always room: what stands there is of the
 *       same key, and dead.
 *   L4  Nothing of this costs a fiber that sets nothing: its stack's descriptor has `slots` NULL, which its end looks at.
 *
 * Rejected: an array indexed by key, as threads have. A program with thirty keys of which each fiber uses two would allocate one a
 * fiber; here the first SL_LOCAL_FEW values of a fiber stand in its stack's descriptor, whatever their keys.
 *
 * order [local.1]: create stores the drop (release), then the LIVE tag (release). Who runs a drop reads the tag (acquire), the drop
 * (acquire), the tag again: if the drop it read is of a later round, it has also seen that the tag is gone. */
#include "sched/local.h"

#include "base/assert.h"
#include "sched/park.h"

#include <stdlib.h>
#include <string.h>

#include <sley/fiber.h>

#define PROBES 8

/* A tag, from its low end: the key (in a slot; 0 in the table of keys), the state, the round. */
#define KEY_BITS  16
#define KEY_MASK  (((uint64_t)1 << KEY_BITS) - 1)
#define KEY_TAKEN ((uint64_t)1 << KEY_BITS)
#define KEY_LIVE  ((uint64_t)2 << KEY_BITS)
#define KEY_ROUND ((uint64_t)4 << KEY_BITS)

_Static_assert((SL_LOCAL_KEYS_MAX & (SL_LOCAL_KEYS_MAX - 1)) == 0 && SL_LOCAL_KEYS_MAX <= KEY_MASK, "L3, and a key fits its bits");
_Static_assert((SL_LOCAL_FEW & (SL_LOCAL_FEW - 1)) == 0 && SL_LOCAL_FEW <= SL_LOCAL_KEYS_MAX, "a table is a power of two");

typedef void drop_fn(void *value);

static struct {
    _Atomic(uint64_t)  tag;  /* L1 */
    _Atomic(drop_fn *) drop; /* written by who has TAKEN the key */
} keys[SL_LOCAL_KEYS_MAX];

/* ---- keys ---- */

int sley_local_create(drop_fn *drop)
{
    for (int key = 0; key < SL_LOCAL_KEYS_MAX; key++) {
        uint64_t tag = sl_load_relaxed(&keys[key].tag); /* re-checked by the compare-and-swap */

        if (tag & (KEY_TAKEN | KEY_LIVE) || !sl_cas_acq_rel(&keys[key].tag, &tag, tag | KEY_TAKEN)) /* [local.1] */
            continue;
        sl_store_release(&keys[key].drop, drop);          /* [local.1] */
        sl_store_release(&keys[key].tag, tag | KEY_LIVE); /* [local.1] */
        return key;
    }
    return -EAGAIN;
}

/* The tag of key's values; 0: there is no such key. */
static uint64_t tag_of(int key)
{
    uint64_t tag;

    if ((unsigned)key >= SL_LOCAL_KEYS_MAX)
        return 0;
    tag = sl_load_acquire(&keys[key].tag); /* [local.1] */
    return tag & KEY_LIVE ? tag | (unsigned)key : 0;
}

static bool is_live(uint64_t tag)
{
    return sl_load_relaxed(&keys[tag & KEY_MASK].tag) == (tag & ~KEY_MASK); /* hint: one that dies now is found out later */
}

void sley_local_destroy(int key)
{
    uint64_t tag = tag_of(key) & ~KEY_MASK;

    if (key < 0)
        return;
    SLEY_ASSERT(tag != 0 && sl_cas_acq_rel(&keys[key].tag, &tag, (tag & ~KEY_LIVE) + KEY_ROUND), /* [local.1] */
                "sley_local_destroy", "there is no such key");
}

/* NULL: the key is gone, or has none. */
static drop_fn *drop_of(uint64_t tag)
{
    unsigned key = (unsigned)(tag & KEY_MASK);
    drop_fn *drop;

    if (sl_load_acquire(&keys[key].tag) != (tag & ~KEY_MASK)) /* [local.1] */
        return NULL;
    drop = sl_load_acquire(&keys[key].drop); /* [local.1] */
    return is_live(tag) ? drop : NULL;
}

/* ---- tables ---- */

static unsigned probes(const struct sl_locals *l)
{
    return l->mask < PROBES ? l->mask + 1 : PROBES;
}

static struct sl_local *find(const struct sl_locals *l, uint64_t tag)
{
    for (unsigned i = 0; i < probes(l); i++) {
        struct sl_local *s = &l->slots[((unsigned)tag + i) & l->mask];

        if (s->tag == tag)
            return s;
        if (s->tag == 0)
            break;
    }
    return NULL;
}

/* A slot for a value of this tag, which has none. NULL: the table must grow. */
static struct sl_local *room(const struct sl_locals *l, uint64_t tag)
{
    for (unsigned i = 0; i < probes(l); i++) {
        struct sl_local *s = &l->slots[((unsigned)tag + i) & l->mask];

        if (s->value == NULL || !is_live(s->tag))
            return s;
    }
    return NULL;
}

static bool move_all(struct sl_locals *to, const struct sl_locals *from)
{
    for (unsigned i = 0; i <= from->mask; i++) {
        const struct sl_local *s = &from->slots[i];
        struct sl_local *place;

        if (s->value == NULL || !is_live(s->tag))
            continue;
        place = room(to, s->tag);
        if (place == NULL)
            return false;
        *place = *s;
    }
    return true;
}

static bool grow(struct sl_locals *l)
{
    struct sl_locals to = { .mask = l->mask };

    do {
        to.mask = to.mask * 2 + 1;
        sl_assert(to.mask < SL_LOCAL_KEYS_MAX); /* L3 */
        free(to.slots);
        to.slots = calloc(to.mask + 1, sizeof *to.slots);
        if (to.slots == NULL)
            return false;
    } while (!move_all(&to, l));
    if (l->slots != l->few)
        free(l->slots);
    l->slots = to.slots;
    l->mask = to.mask;
    return true;
}

/* ---- whose ---- */

/* Of the fiber or thread that runs here; NULL: a thread that has set none. */
static struct sl_locals *own(void)
{
    struct sl_thread *t = sl_self_or_null();

    if (t == NULL)
        return NULL;
    return t->worker != NULL ? &t->current->stack->locals : t->locals;
}

/* For the first value. NULL: no memory. */
static struct sl_locals *own_made(void)
{
    struct sl_thread *t = sl_self();

    if (t->worker == NULL && t->locals == NULL)
        t->locals = calloc(1, sizeof *t->locals);
    return own();
}

static int set_first(uint64_t tag, void *value)
{
    struct sl_locals *l = own_made();

    if (l == NULL)
        return -ENOMEM;
    memset(l->few, 0, sizeof l->few);
    l->mask = SL_LOCAL_FEW - 1;
    l->slots = l->few;
    *room(l, tag) = (struct sl_local){ value, tag };
    return 0;
}

int sley_local_set(int key, void *value)
{
    uint64_t tag = tag_of(key);
    struct sl_locals *l = own();
    struct sl_local *s;

    if (tag == 0)
        return -EINVAL;
    if (l == NULL || l->slots == NULL)
        return value != NULL ? set_first(tag, value) : 0;
    s = find(l, tag);
    if (s != NULL) {
        s->value = value;
        return 0;
    }
    if (value == NULL)
        return 0;
    while ((s = room(l, tag)) == NULL)
        if (!grow(l))
            return -ENOMEM;
    *s = (struct sl_local){ value, tag };
    return 0;
}

void *sley_local_get(int key)
{
    uint64_t tag = tag_of(key);
    struct sl_locals *l = own();
    struct sl_local *s = tag != 0 && l != NULL && l->slots != NULL ? find(l, tag) : NULL;

    return s != NULL ? s->value : NULL;
}

/* ---- the end ---- */

/* Each value once; true: a drop was called, so there may be new ones. A drop that sets values may make the table grow under the walk: what
 * the walk then misses is the next one's. */
static bool drop_once(struct sl_locals *l)
{
    bool called = false;

    for (unsigned i = 0; i <= l->mask; i++) {
        struct sl_local *s = &l->slots[i];
        void *value = s->value;
        drop_fn *drop = value != NULL ? drop_of(s->tag) : NULL;

        s->value = NULL; /* a drop that asks finds nothing */
        if (drop != NULL) {
            drop(value);
            called = true;
        }
    }
    return called;
}

void sl_locals_drop(struct sl_locals *l)
{
    for (int round = 0; round < SL_LOCAL_DROP_ROUNDS && drop_once(l); round++)
        ;
    sl_locals_forget(l);
}

void sl_locals_forget(struct sl_locals *l)
{
    if (l->slots != l->few)
        free(l->slots);
    l->slots = NULL;
}

void sl_locals_thread_ends(struct sl_thread *t)
{
    struct sl_locals *l = t->locals;

    if (l == NULL)
        return;
    sl_locals_drop(l);
    t->locals = NULL;
    free(l);
}

void sl_locals_thread_forget(struct sl_thread *t)
{
    struct sl_locals *l = t->locals;

    if (l == NULL)
        return;
    sl_locals_forget(l);
    t->locals = NULL;
    free(l);
}
