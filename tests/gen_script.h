/* gen_script.h - for the tests of generators: a body that does what a script says and notes what it was told. The calls of gen.h come in
 * two kinds, compiled into the program and in the library: a test program has those of its own kind, gen_other.c those of the other,
 * and tests that say so mix them. */
#ifndef GEN_SCRIPT_H
#define GEN_SCRIPT_H

#include <sley.h>

enum { NOTED = 16, NOTHING = -77 };
enum when_told { PASS_ON, SWALLOW, GO_ON }; /* an error: return it; return the result; yield on */

struct script {
    int n;          /* yields 0, 1, ... n - 1 */
    int rc;         /* what it returns at its end */
    enum when_told when_told;
    int begins, yields, ends;
    int say[NOTED]; /* what each yield returned */
    int in[NOTED];  /* what came in with it; NOTHING: nothing */
    uint64_t self;
};

static inline int follow(void *arg)
{
    struct script *s = arg;

    s->begins++;
    s->self = sley_self();
    for (int i = 0; i < s->n; i++) {
        int in = NOTHING, say;

        s->yields = i + 1;
        say = sley_gen_yield(&i, &in);
        s->say[i % NOTED] = say;
        s->in[i % NOTED] = in;
        if (say < 0 && s->when_told != GO_ON) {
            s->ends++;
            s->self = sley_self();
            return s->when_told == PASS_ON ? say : s->rc;
        }
    }
    s->ends++;
    return s->rc;
}

/* The calls as gen_other.c has them. */
int other_next(sley_gen *g, void *out);
int other_send(sley_gen *g, const void *in, void *out);
int other_yield(const void *out, void *in);
int other_follow(void *arg);
int other_is_inline(void);

#endif
