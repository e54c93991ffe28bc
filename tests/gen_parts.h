/* gen_parts.h - for the tests of generators: scenarios (scenario.h) on a fiber and on a plain thread, and scripts (gen_script.h). */
#ifndef GEN_PARTS_H
#define GEN_PARTS_H

#include "gen_script.h"
#include "scenario.h"

#define ON_FIBERS(test) { #test, test, NULL, NULL, &casts[0] }
#define ON_BOTH(test)   { #test " (fibers)", test, NULL, NULL, &casts[0] }, { #test " (threads)", test, NULL, NULL, &casts[2] }

static inline sley_gen *begin_script(struct script *s, int n, int rc)
{
    *s = (struct script){ .n = n, .rc = rc };
    return sley_gen_create(follow, s, sizeof(int));
}

/* ... and up to its first yield. */
static inline sley_gen *started_script(struct script *s, int n, int rc)
{
    sley_gen *g = begin_script(s, n, rc);
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 1 && v == 0);
    return g;
}

/* ---- what happens, in order ---- */

static struct {
    _Atomic(int) n;
    int what[4096];
} track __attribute__((unused));

static inline void note(int what)
{
    int i = sl_add_acq_rel(&track.n, 1);

    if (i < (int)(sizeof track.what / sizeof *track.what))
        track.what[i] = what;
}

/* Whether what was noted is exactly this, and forget it. */
static inline int noted(const int *wanted, int n)
{
    int rc = track.n == n && memcmp(track.what, wanted, (size_t)n * sizeof *wanted) == 0;

    track.n = 0;
    return rc;
}

#define NOTED_ARE(...) noted((const int[]){ __VA_ARGS__ }, (int)(sizeof(int[]){ __VA_ARGS__ } / sizeof(int)))
#define NOTED_NOTHING  noted((const int[]){ 0 }, 0)

/* ---- values of any size ---- */

static inline void fill(unsigned char *p, size_t bytes, unsigned salt)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)(salt * 31 + i * 7 + 1);
}

static inline int is_filled(const unsigned char *p, size_t bytes, unsigned salt)
{
    for (size_t i = 0; i < bytes; i++)
        if (p[i] != (unsigned char)(salt * 31 + i * 7 + 1))
            return 0;
    return 1;
}

/* ---- what several share ---- */

struct relay {
    sley_chan *in;
    sley_event go;
    _Atomic(int) seen, left;
};

/* ---- a body that delegates ---- */

struct level {
    sley_gen *inner;
    int yields_before, yields_after; /* of its own: 1000, 1001, ... */
    int from_inner;                  /* what yield_from returned */
    int rc;                          /* what it returns; 0: what yield_from has returned, if that is an error */
    int swallow;                     /* an error of yield_from */
    int ended;
};

static inline int delegate(void *arg)
{
    struct level *l = arg;
    int rc = 0;

    for (int v = 1000; v < 1000 + l->yields_before && rc >= 0; v++)
        rc = sley_gen_yield(&v, NULL);
    if (rc >= 0)
        l->from_inner = rc = sley_gen_yield_from(l->inner);
    if (l->swallow)
        rc = 0;
    for (int v = 2000; v < 2000 + l->yields_after && rc >= 0; v++)
        rc = sley_gen_yield(&v, NULL);
    l->ended++;
    return rc < 0 || l->rc == 0 ? rc : l->rc;
}

/* ---- trees ---- */

struct node {
    int key;
    struct node *left, *right;
};

static inline struct node *make_tree(struct node *nodes, int first, int end)
{
    int middle = first + (end - first) / 2;

    if (first == end)
        return NULL;
    nodes[middle] = (struct node){ middle, make_tree(nodes, first, middle), make_tree(nodes, middle + 1, end) };
    return &nodes[middle];
}

/* ---- stacks ---- */

/* Down to the address `low`; how many bytes were not as they had been on the way back. */
__attribute__((noinline, unused)) static unsigned use_down_to(uintptr_t low, unsigned salt)
{
    volatile unsigned char frame[1024];
    unsigned wrong = 0;

    for (size_t i = 0; i < sizeof frame; i += 64)
        frame[i] = (unsigned char)(salt + i);
    if ((uintptr_t)__builtin_frame_address(0) > low)
        wrong = use_down_to(low, salt + 1);
    for (size_t i = 0; i < sizeof frame; i += 64)
        wrong += frame[i] != (unsigned char)(salt + i);
    return wrong;
}

static inline unsigned use_stack(size_t bytes, unsigned salt)
{
    return use_down_to((uintptr_t)__builtin_frame_address(0) - bytes, salt);
}

/* ---- playing ---- */

/* Play fn(NULL) on the first fiber of a runtime with these options, and say what was not met. */
static inline void run_scene(const sley_options *options, sley_fn *fn, int result)
{
    scene.cast = casts[0];
    scene.unmet = NULL;
    assert_int_equal(sley_run(options, fn, NULL), result);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

#endif
