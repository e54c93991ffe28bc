/* Seed 002, a generator that takes 50 potatoes from a shelf and waits while it is empty. The seed waits with time.sleep, and nothing else
 * of the program goes on; here only the fiber waits in whose loop the generator is.
 *
 *   $ 09_potatoes
 *   50 7 4
 */
#include <sley.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct potato {
    struct potato *under;
};

struct list {
    struct potato *top;
    int len;
};

static struct list all_potatos;
static int restocked;

static void append(struct list *l, struct potato *p)
{
    p->under = l->top;
    l->top = p;
    l->len++;
}

static struct potato *pop(struct list *l)
{
    struct potato *p = l->top;

    l->top = p->under;
    l->len--;
    return p;
}

static int make(struct list *l, int num) /* l.extend(Potato.make(num)) */
{
    for (int i = 0; i < num; i++) {
        struct potato *p = malloc(sizeof *p);
        if (p == NULL)
            return -ENOMEM;
        append(l, p);
    }
    return 0;
}

static int take_potatos(void *arg)
{
    int num = *(int *)arg, count = 0, rc = 0;

    while (rc >= 0) {
        if (all_potatos.len == 0) {
            if ((rc = sley_sleep(SLEY_MS)) == 0) {
                restocked += 1;
                rc = make(&all_potatos, 7);
            }
        } else {
            struct potato *potato = pop(&all_potatos);
            rc = sley_gen_yield(&potato, NULL);
            count += 1;
            if (count == num)
                break;
        }
    }
    return rc;
}

static int start(void *arg)
{
    struct list bucket = { NULL, 0 };
    int num = 50, rc = make(&all_potatos, 5);
    sley_gen *potatos = sley_gen_create(take_potatos, &num, sizeof(struct potato *));
    struct potato *p;

    (void)arg;
    while (rc >= 0 && (rc = sley_gen_next(potatos, &p)) > 0) /* for p in take_potatos(50) */
        append(&bucket, p);
    if (rc == 0)
        printf("%d %d %d\n", bucket.len, restocked, all_potatos.len);
    sley_gen_destroy(potatos);
    while (bucket.len > 0)
        free(pop(&bucket));
    while (all_potatos.len > 0)
        free(pop(&all_potatos));
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
