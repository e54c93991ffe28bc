/* test_go_chan.c - what the tests of Go ask of channels and of select, asked of ours: docs/tests-go-chan.md goes through them. */
#include "scenario.h"

#include <stdbool.h>

#define COUNT_OF(a) (sizeof(a) / sizeof(a)[0])

static sley_chan *chan_of_longs(size_t capacity)
{
    sley_chan *ch = sley_chan_create(sizeof(long), capacity);

    EXPECT(ch != NULL);
    return ch;
}

static void put(sley_chan *ch, long v) { EXPECT(sley_chan_send(ch, &v, SLEY_FOREVER) == 0); }

static long get(sley_chan *ch)
{
    long v = -1;

    EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 1);
    return v;
}

static int select_now(sley_case *on, size_t n) { return sley_select(on, n, SLEY_NOW); }

/* --- what waits, and what does not: select3, closedchan, nonblock, the first half of TestChan ------------------------------------ */

static bool send_waits(sley_chan *ch) /* by the call and by an arm; neither sends if so */
{
    long v = 7;
    sley_case on[2] = { sley_case_recv(NULL, NULL), sley_case_send(ch, &v) };
    int rc = sley_chan_send(ch, &v, SLEY_NOW), i;

    if (rc != -ETIMEDOUT && ch != NULL)
        return false;
    i = select_now(on, 2);
    EXPECT(i == -ETIMEDOUT);
    i = sley_select(on, 2, sley_after(SLEY_US * 100));
    EXPECT(i == -ETIMEDOUT && (ch == NULL || sley_chan_send(ch, &v, sley_after(SLEY_US * 100)) == -ETIMEDOUT));
    return i == -ETIMEDOUT;
}

static bool recv_waits(sley_chan *ch)
{
    long v = 7;
    sley_case on[2] = { sley_case_recv(ch, &v), sley_case_send(NULL, NULL) };
    int rc = sley_chan_recv(ch, &v, SLEY_NOW), i;

    if (rc != -ETIMEDOUT && ch != NULL)
        return false;
    i = select_now(on, 2);
    EXPECT(i == -ETIMEDOUT);
    i = sley_select(on, 2, sley_after(SLEY_US * 100));
    EXPECT(i == -ETIMEDOUT && v == 7 && (ch == NULL || sley_chan_recv(ch, &v, sley_after(SLEY_US * 100)) == -ETIMEDOUT));
    return i == -ETIMEDOUT;
}

SCENARIO(no_channel_is_never_ready)
{
    long v = 1;

    EXPECT(send_waits(NULL) && recv_waits(NULL));
    EXPECT(sley_chan_send(NULL, &v, SLEY_NOW) == -EINVAL && sley_chan_recv(NULL, &v, SLEY_NOW) == -EINVAL);
    EXPECT(sley_select(NULL, 0, SLEY_NOW) == -ETIMEDOUT && sley_select(NULL, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
}

SCENARIO(empty_full_and_closed_wait_or_do_not)
{
    sley_chan *sync = chan_of_longs(0), *ch = chan_of_longs(3);

    EXPECT(send_waits(sync) && recv_waits(sync));
    EXPECT(recv_waits(ch) && !send_waits(ch));
    EXPECT(!send_waits(ch) && !send_waits(ch));
    EXPECT(send_waits(ch) && !recv_waits(ch));
    EXPECT(!send_waits(ch));
    sley_chan_close(ch);
    sley_chan_close(sync);
    EXPECT(!send_waits(sync) && !recv_waits(sync) && !send_waits(ch));
    for (int i = 0; i < 6; i++)
        EXPECT(!recv_waits(ch));
    sley_chan_destroy(ch);
    sley_chan_destroy(sync);
}

SCENARIO(closed_channel_answers_every_call_and_arm)
{
    for (int capacity = 0; capacity < 3; capacity += 2) {
        sley_chan *ch = chan_of_longs(capacity), *other = chan_of_longs(0);
        long v = 5, w = 6;
        sley_case in[4] = { sley_case_recv(ch, &v), sley_case_recv(other, &w), sley_case_recv(NULL, NULL), sley_case_send(other, &w) };
        sley_case out[3] = { sley_case_send(ch, &v), sley_case_send(NULL, NULL), sley_case_recv(other, &w) };

        if (capacity > 0)
            put(ch, 1);
        sley_chan_close(ch);
        sley_chan_close(ch); /* theirs panics, ours does nothing */
        EXPECT(sley_select(out, 3, SLEY_FOREVER) == 0 && out[0].result == -EPIPE);
        EXPECT(capacity == 0 || (sley_select(in, 4, SLEY_FOREVER) == 0 && in[0].result == 1 && v == 1));
        v = 5;
        for (size_t n = 1; n <= 4; n++)
            EXPECT(sley_select(in, n, SLEY_FOREVER) == 0 && in[0].result == 0 && v == 5);
        EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 0 && sley_chan_recv(ch, NULL, SLEY_NOW) == 0 && v == 5);
        EXPECT(sley_chan_send(ch, &v, SLEY_FOREVER) == -EPIPE && sley_chan_len(ch) == 0);
        sley_chan_destroy(ch);
        sley_chan_destroy(other);
    }
}

SCENARIO(an_arm_that_is_ready_goes)
{
    sley_chan *ready = chan_of_longs(1), *never = chan_of_longs(0);
    long v = 0, w = 0;
    sley_case on[3] = { sley_case_recv(never, &w), sley_case_recv(ready, &v), sley_case_send(never, &w) };

    for (int i = 0; i < 100; i++) {
        put(ready, 42 + i);
        EXPECT((i % 2 ? sley_select(on, 3, SLEY_FOREVER) : sley_select_ordered(on, 3, SLEY_FOREVER)) == 1);
        EXPECT(on[1].result == 1 && v == 42 + i && w == 0);
    }
    sley_chan_destroy(ready);
    sley_chan_destroy(never);
}

/* --- one message after the other: fifo, goroutines, TestChan, TestMultiConsumer --------------------------------------------------- */

struct link {
    struct actor actor;
    sley_chan *in, *out, *shared;
    long number;
};

/* Take message `number` of a channel that all receive from, when the one before has been taken. */
static int take_in_turn(void *arg)
{
    struct link *l = arg;

    get(l->in);
    EXPECT(get(l->shared) == l->number);
    put(l->out, 0);
    return 0;
}

SCENARIO(unbuffered_channel_is_a_fifo)
{
    enum { N = 10 };
    struct link l[N];
    sley_chan *ch = chan_of_longs(0), *turn[N + 1];

    for (int i = 0; i <= N; i++)
        turn[i] = chan_of_longs(1);
    for (int i = 0; i < N; i++) {
        l[i] = (struct link){ .in = turn[i], .out = turn[i + 1], .shared = ch, .number = i };
        actor_start(&l[i].actor, take_in_turn, &l[i]);
    }
    put(turn[0], 0);
    for (long i = 0; i < N; i++)
        put(ch, i);
    get(turn[N]);
    for (int i = 0; i < N; i++)
        actor_result(&l[i].actor);
    for (int i = 0; i <= N; i++)
        sley_chan_destroy(turn[i]);
    sley_chan_destroy(ch);
}

static int hand_left(void *arg)
{
    struct link *l = arg;

    put(l->out, get(l->in) + 1);
    return 0;
}

SCENARIO(a_long_chain_hands_one_value_along)
{
    int n = scene.cast == FIBERS ? 10000 : 200;
    struct link *l = calloc(n, sizeof *l);
    sley_chan **ch = calloc(n + 1, sizeof(sley_chan *));

    for (int i = 0; i <= n; i++)
        ch[i] = chan_of_longs(0);
    for (int i = 0; i < n; i++) {
        l[i] = (struct link){ .in = ch[i], .out = ch[i + 1] };
        actor_start(&l[i].actor, hand_left, &l[i]);
    }
    put(ch[0], 0);
    EXPECT(get(ch[n]) == n);
    for (int i = 0; i < n; i++)
        actor_result(&l[i].actor);
    for (int i = 0; i <= n; i++)
        sley_chan_destroy(ch[i]);
    free(ch);
    free(l);
}

struct crowd {
    struct actor actor;
    sley_chan *in, *out;
    long from, to;
    long *seen;
};

static int send_range(void *arg)
{
    struct crowd *c = arg;

    for (long i = c->from; i < c->to; i++)
        put(c->out, i);
    return 0;
}

static int count_range(void *arg)
{
    struct crowd *c = arg;

    for (long i = c->from; i < c->to; i++)
        c->seen[get(c->in)]++;
    return 0;
}

SCENARIO(four_senders_and_four_receivers_pass_each_value_once)
{
    enum { ENDS = 4, EACH = 500 };

    for (int capacity = 0; capacity <= 20; capacity += 5) {
        static long seen[ENDS][EACH];
        struct crowd s[ENDS], r[ENDS];
        sley_chan *ch = chan_of_longs(capacity);

        memset(seen, 0, sizeof seen);
        for (int i = 0; i < ENDS; i++) {
            s[i] = (struct crowd){ .out = ch, .to = EACH };
            r[i] = (struct crowd){ .in = ch, .to = EACH, .seen = seen[i] };
            actor_start(&s[i].actor, send_range, &s[i]);
            actor_start(&r[i].actor, count_range, &r[i]);
        }
        for (int i = 0; i < ENDS; i++) {
            actor_result(&s[i].actor);
            actor_result(&r[i].actor);
        }
        for (int v = 0; v < EACH; v++)
            EXPECT(seen[0][v] + seen[1][v] + seen[2][v] + seen[3][v] == ENDS);
        sley_chan_destroy(ch);
    }
}

static int double_all(void *arg)
{
    struct crowd *c = arg;
    long v;

    while (sley_chan_recv(c->in, &v, SLEY_FOREVER) == 1) {
        if (v % 37 == 0)
            give_way(); /* some take longer */
        put(c->out, 2 * v);
    }
    return 0;
}

SCENARIO(many_consumers_pass_all_on)
{
    enum { CONSUMERS = 23, N = 10000 };
    sley_chan *in = chan_of_longs(CONSUMERS * 3 / 2), *out = chan_of_longs(CONSUMERS * 3 / 2);
    int n = scene.cast == FIBERS ? N : N / 10;
    struct crowd feeder = { .out = in, .from = 1, .to = n + 1 }, c[CONSUMERS];
    long sum = 0;

    actor_start(&feeder.actor, send_range, &feeder);
    for (int i = 0; i < CONSUMERS; i++) {
        c[i] = (struct crowd){ .in = in, .out = out };
        actor_start(&c[i].actor, double_all, &c[i]);
    }
    for (int i = 0; i < n; i++)
        sum += get(out);
    actor_result(&feeder.actor);
    sley_chan_close(in);
    for (int i = 0; i < CONSUMERS; i++)
        actor_result(&c[i].actor);
    EXPECT(sum == (long)n * (n + 1) && sley_chan_len(out) == 0);
    sley_chan_destroy(in);
    sley_chan_destroy(out);
}

/* --- sieves ---------------------------------------------------------------------------------------------------------------------- */

enum { PRIMES = 25, SIEVES_MAX = 64 };

static const long primes[PRIMES] = { 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97 };

/* All these end when the channel that they send to is closed; then they close the one they receive from. */
static int count_up(void *arg)
{
    struct link *l = arg;
    int rc = 0;

    for (long v = l->number; rc == 0; v++)
        rc = sley_chan_send(l->out, &v, SLEY_FOREVER);
    return rc == -EPIPE ? 0 : rc;
}

static int leave_out_multiples(void *arg)
{
    struct link *l = arg;
    int rc = 0;
    long v;

    while (rc == 0 && sley_chan_recv(l->in, &v, SLEY_FOREVER) == 1)
        if (v % l->number != 0)
            rc = sley_chan_send(l->out, &v, SLEY_FOREVER);
    sley_chan_close(l->in);
    return rc == -EPIPE ? 0 : rc;
}

SCENARIO(a_chain_of_filters_leaves_the_primes)
{
    struct link l[PRIMES + 1];
    sley_chan *ch[PRIMES + 1];

    ch[0] = chan_of_longs(0);
    l[0] = (struct link){ .out = ch[0], .number = 2 };
    actor_start(&l[0].actor, count_up, &l[0]);
    for (int i = 0; i < PRIMES; i++) {
        EXPECT(get(ch[i]) == primes[i]);
        ch[i + 1] = chan_of_longs(0);
        l[i + 1] = (struct link){ .in = ch[i], .out = ch[i + 1], .number = primes[i] };
        actor_start(&l[i + 1].actor, leave_out_multiples, &l[i + 1]);
    }
    sley_chan_close(ch[PRIMES]);
    for (int i = 0; i <= PRIMES; i++) {
        EXPECT(actor_result(&l[i].actor) == 0);
        sley_chan_destroy(ch[i]);
    }
}

static int multiples(void *arg) /* odd ones, from the square on */
{
    struct link *l = arg;
    int rc = 0;

    for (long v = l->number * l->number; rc == 0; v += 2 * l->number)
        rc = sley_chan_send(l->out, &v, SLEY_FOREVER);
    return rc == -EPIPE ? 0 : rc;
}

SCENARIO(what_no_stream_of_multiples_has_is_prime)
{
    struct link l[PRIMES];
    long head[PRIMES], found = 0;

    for (long v = 3; found < PRIMES - 1; v += 2) {
        bool is_composite = false;

        for (int i = 0; i < found; i++) {
            if (head[i] == v) {
                is_composite = true;
                head[i] = get(l[i].out);
            }
        }
        if (is_composite)
            continue;
        EXPECT(v == primes[found + 1]);
        l[found] = (struct link){ .out = chan_of_longs(found % 3), .number = v };
        actor_start(&l[found].actor, multiples, &l[found]);
        head[found] = get(l[found].out);
        found++;
    }
    for (int i = 0; i < found; i++) {
        sley_chan_close(l[i].out);
        EXPECT(actor_result(&l[i].actor) == 0);
        sley_chan_destroy(l[i].out);
    }
}

/* --- power series ----------------------------------------------------------------------------------------------------------------
 * A series is a pair of channels: who wants the next coefficient says so, then receives it. An operation is an actor that is asked on one
 * pair and asks on others, until it is no more asked. Coefficients are fractions, as numbers modulo a prime. Some series are defined by
 * themselves, so the actors wait for each other in circles, and `split`, which serves two, may not wait for one neighbour alone. */

enum { TERMS = 20, OPERATIONS_MAX = 48 };

static const long modulus = 1000000007;

struct series {
    sley_chan *want, *next;
};

struct operation {
    struct actor actor;
    struct series in[2], out[2];
    long constant;
    long (*step)(struct operation *o, int n); /* coefficient n */
    long history[2][TERMS + 4];
};

static struct {
    struct operation op[OPERATIONS_MAX];
    struct series series[OPERATIONS_MAX * 2];
    int ops, all;
} powers;

static long times(long a, long b) { return (long)((__int128)a * b % modulus); }

static long inverse(long a) /* by Fermat */
{
    long r = 1;

    for (long e = modulus - 2; e > 0; e >>= 1, a = times(a, a))
        if (e & 1)
            r = times(r, a);
    return r;
}

static struct series new_series(void)
{
    struct series s = { sley_chan_create(0, 0), chan_of_longs(0) };

    powers.series[powers.all++] = s;
    return s;
}

static long coefficient(struct series s)
{
    return sley_chan_send(s.want, NULL, SLEY_FOREVER) == 0 ? get(s.next) : 0;
}

static int operate(void *arg)
{
    struct operation *o = arg;

    for (int n = 0; sley_chan_recv(o->out[0].want, NULL, SLEY_FOREVER) == 1; n++) {
        long c = o->step(o, n);

        if (sley_chan_send(o->out[0].next, &c, SLEY_FOREVER) < 0)
            break;
    }
    for (int i = 0; i < 2; i++) {
        sley_chan_close(o->in[i].want);
        sley_chan_close(o->in[i].next);
    }
    return 0;
}

static struct series operation(long (*step)(struct operation *, int), struct series a, struct series b, long constant)
{
    struct operation *o = &powers.op[powers.ops++];

    *o = (struct operation){ .in = { a, b }, .out = { new_series() }, .constant = constant, .step = step };
    actor_start(&o->actor, operate, o);
    return o->out[0];
}

static const struct series none = { NULL, NULL };

static long step_constant(struct operation *o, int n) { (void)n; return o->constant; }
static long step_scale(struct operation *o, int n) { (void)n; return times(o->constant, coefficient(o->in[0])); }

static long step_add(struct operation *o, int n)
{
    long a = coefficient(o->in[0]);

    (void)n;
    return (a + coefficient(o->in[1])) % modulus;
}

static long step_add_constant(struct operation *o, int n)
{
    return ((n == 0 ? o->constant : 0) + coefficient(o->in[0])) % modulus;
}

static long step_multiply(struct operation *o, int n)
{
    long sum = 0;

    o->history[0][n] = coefficient(o->in[0]);
    o->history[1][n] = coefficient(o->in[1]);
    for (int i = 0; i <= n; i++)
        sum = (sum + times(o->history[0][i], o->history[1][n - i])) % modulus;
    return sum;
}

static long step_integrate(struct operation *o, int n)
{
    return n == 0 ? o->constant : times(coefficient(o->in[0]), inverse(n));
}

static long step_differentiate(struct operation *o, int n)
{
    if (n == 0)
        coefficient(o->in[0]);
    return times(coefficient(o->in[0]), n + 1);
}

/* Two outputs of one input, each asked at its own pace. */
static int split_series(void *arg)
{
    enum { WANT, GIVE = 2, INPUT = 4, ASK, ARMS };
    struct operation *o = arg;
    long c, *history = o->history[0];
    int got = 0, at[2] = { 0, 0 }, waits[2] = { 0, 0 }, open[2] = { 1, 1 }, asked = 0;

    while (open[0] || open[1]) {
        bool wants = false;
        sley_case on[ARMS];
        int i;

        for (int k = 0; k < 2; k++) {
            on[WANT + k] = sley_case_recv(open[k] && !waits[k] ? o->out[k].want : NULL, NULL);
            on[GIVE + k] = sley_case_send(waits[k] && at[k] < got ? o->out[k].next : NULL, &history[at[k]]);
            wants = wants || (waits[k] && at[k] == got);
        }
        on[INPUT] = sley_case_recv(asked ? o->in[0].next : NULL, &c);
        on[ASK] = sley_case_send(wants && !asked ? o->in[0].want : NULL, NULL);
        i = sley_select(on, ARMS, SLEY_FOREVER);
        EXPECT(i >= 0);
        if (i < 0)
            break;
        switch (i) {
        case WANT:
        case WANT + 1:
            waits[i - WANT] = on[i].result == 1;
            if (on[i].result == 0 && i - WANT == 0) { /* the one at whose end all ends */
                sley_chan_close(o->in[0].want);
                sley_chan_close(o->in[0].next);
                sley_chan_close(o->out[1].next);
            }
            open[i - WANT] = on[i].result == 1;
            break;
        case GIVE:
        case GIVE + 1:
            open[i - GIVE] = on[i].result == 0;
            waits[i - GIVE] = 0;
            at[i - GIVE]++;
            break;
        case INPUT:
            asked = 0;
            if (on[i].result == 1)
                history[got++] = c;
            else
                open[0] = open[1] = 0;
            break;
        case ASK:
            asked = 1;
            if (on[i].result != 0)
                open[0] = open[1] = 0;
            break;
        }
    }
    sley_chan_close(o->in[0].want);
    sley_chan_close(o->in[0].next);
    sley_chan_close(o->out[1].next);
    return 0;
}

static struct operation *split(struct series in)
{
    struct operation *o = &powers.op[powers.ops++];

    *o = (struct operation){ .in = { in, none }, .out = { new_series(), new_series() } };
    return o;
}

static void start_split(struct operation *o) { actor_start(&o->actor, split_series, o); }

/* The first terms, times their factorials if wanted; then it is no more asked. */
static void look_at_series(struct series s, const long *expected, size_t n, bool of_factorial)
{
    long factorial = 1;

    for (size_t i = 0; i < n; i++) {
        long c;

        factorial = i > 0 ? times(factorial, i) : 1;
        c = coefficient(s);
        EXPECT((of_factorial ? times(c, factorial) : c) == expected[i]);
    }
    sley_chan_close(s.want);
    sley_chan_close(s.next);
}

static void begin_powers(void) { memset(&powers, 0, sizeof powers); }

static void end_powers(void)
{
    for (int i = 0; i < powers.ops; i++)
        actor_result(&powers.op[i].actor);
    for (int i = 0; i < powers.all; i++) {
        sley_chan_destroy(powers.series[i].want);
        sley_chan_destroy(powers.series[i].next);
    }
}

static struct series exponential(void) /* is 1 and its own integral */
{
    struct operation *both = split(none);

    both->in[0] = operation(step_integrate, both->out[1], none, 1);
    start_split(both);
    return both->out[0];
}

SCENARIO(power_series_of_one_over_one_minus_x)
{
    long squares[TERMS], cubes[TERMS], twice[TERMS];
    struct series ones[6];

    for (int i = 0; i < TERMS; i++) {
        squares[i] = i + 1;
        cubes[i] = (i + 1) * (i + 2) / 2;
        twice[i] = 2 * (i + 1) + 3;
    }
    begin_powers();
    for (int i = 0; i < 6; i++)
        ones[i] = operation(step_constant, none, none, i == 5 ? 3 : 1);
    look_at_series(operation(step_multiply, operation(step_multiply, ones[0], ones[1], 0), ones[2], 0), cubes, TERMS, false);
    ones[4] = operation(step_scale, operation(step_multiply, ones[3], ones[4], 0), none, 2);
    look_at_series(operation(step_add, ones[4], ones[5], 0), twice, TERMS, false);
    look_at_series(operation(step_differentiate, operation(step_constant, none, none, 1), none, 0), squares, TERMS, false);
    end_powers();
}

SCENARIO(power_series_defined_by_themselves)
{
    static const long tangent[] = { 0, 1, 0, 2, 0, 16, 0, 272, 0, 7936, 0, 353792, 0, 22368256 };
    long ones[TERMS], powers_of_two[TERMS];
    struct operation *three, *two;
    struct series square;

    for (int i = 0; i < TERMS; i++) {
        ones[i] = 1;
        powers_of_two[i] = 1L << i;
    }
    begin_powers();
    look_at_series(exponential(), ones, TERMS, true);
    look_at_series(operation(step_differentiate, exponential(), none, 0), ones, TERMS, true);
    look_at_series(operation(step_multiply, exponential(), exponential(), 0), powers_of_two, TERMS, true);
    three = split(none); /* tan' = 1 + tan tan */
    two = split(three->out[1]);
    square = operation(step_multiply, two->out[0], two->out[1], 0);
    three->in[0] = operation(step_integrate, operation(step_add_constant, square, none, 1), none, 0);
    start_split(two);
    start_split(three);
    look_at_series(three->out[0], tangent, COUNT_OF(tangent), true);
    end_powers();
}

/* --- select ----------------------------------------------------------------------------------------------------------------------- */

/* doubleselect: each number goes through one of four channels, drawn by the sender's select; the receiver's meets it once. */

struct net {
    struct actor actor;
    sley_chan *ch[4];
    long n;
};

static int send_by_any(void *arg)
{
    struct net *s = arg;

    for (long v = 0; v < s->n; v++) {
        sley_case on[4];

        for (int i = 0; i < 4; i++)
            on[i] = sley_case_send(s->ch[i], &v);
        EXPECT(sley_select(on, 4, SLEY_FOREVER) >= 0);
    }
    for (int i = 0; i < 4; i++)
        sley_chan_close(s->ch[i]);
    return 0;
}

SCENARIO(two_arms_of_one_select_never_both_go)
{
    for (int capacity = 0; capacity < 2; capacity++) {
        struct net s = { .n = scene.cast == FIBERS ? 50000 : 5000 };
        sley_case on[4];
        long v, next = 0;
        int open = 4;
        bool *seen = calloc(s.n, sizeof *seen);

        for (int i = 0; i < 4; i++)
            s.ch[i] = chan_of_longs(capacity);
        for (int i = 0; i < 4; i++)
            on[i] = sley_case_recv(s.ch[i], &v);
        actor_start(&s.actor, send_by_any, &s);
        while (open > 0) {
            int i = sley_select(on, 4, SLEY_FOREVER);

            EXPECT(i >= 0);
            if (i < 0)
                break;
            if (on[i].result == 1) {
                EXPECT(v >= 0 && v < s.n && !seen[v] && (capacity > 0 || v == next));
                seen[v] = true;
                next++;
            } else {
                on[i] = sley_case_recv(NULL, NULL);
                open--;
            }
        }
        EXPECT(next == s.n && actor_result(&s.actor) == 0);
        for (int i = 0; i < 4; i++)
            sley_chan_destroy(s.ch[i]);
        free(seen);
    }
}

/* select: arms are switched off by giving them no channel. */
static int send_to_both(void *arg)
{
    struct net *s = arg;
    sley_chan *a = s->ch[0], *b = s->ch[1];
    long v[2] = { 0, 0 };

    while (a != NULL || b != NULL) {
        sley_case on[2] = { sley_case_send(a, &v[0]), sley_case_send(b, &v[1]) };
        int i = sley_select(on, 2, SLEY_FOREVER);

        EXPECT(i >= 0 && on[i].result == 0);
        if (i < 0)
            return i;
        if (++v[i] == s->n)
            *(i == 0 ? &a : &b) = NULL;
    }
    return 0;
}

SCENARIO(arms_may_be_switched_off)
{
    struct net s = { .n = 1000 };
    long next[2] = { 0, 0 };

    s.ch[0] = chan_of_longs(0);
    s.ch[1] = chan_of_longs(1);
    actor_start(&s.actor, send_to_both, &s);
    while (next[0] < s.n || next[1] < s.n) {
        bool off = (next[0] + next[1]) % 3 == 0 && next[0] < s.n && next[1] < s.n;
        long v;
        sley_case on[2] = { sley_case_recv(next[0] == s.n || (off && next[0] > next[1]) ? NULL : s.ch[0], &v),
                            sley_case_recv(next[1] == s.n || (off && next[0] <= next[1]) ? NULL : s.ch[1], &v) };
        int i = sley_select(on, 2, SLEY_FOREVER);

        EXPECT(i >= 0 && on[i].result == 1 && v == next[i]);
        if (i < 0)
            break;
        next[i]++;
    }
    EXPECT(actor_result(&s.actor) == 0);
    sley_chan_destroy(s.ch[0]);
    sley_chan_destroy(s.ch[1]);
}

/* select6: a select that is last of several in a channel's list wins elsewhere; who comes later is served all the same. */
static int select_of_two(void *arg)
{
    struct net *s = arg;
    sley_case on[2] = { sley_case_recv(s->ch[0], NULL), sley_case_recv(s->ch[1], NULL) };

    return sley_select(on, 2, SLEY_FOREVER);
}

static int recv_first(void *arg)
{
    struct net *s = arg;
    return sley_chan_recv(s->ch[0], NULL, SLEY_FOREVER);
}

SCENARIO(a_select_that_won_elsewhere_leaves_no_hole)
{
    sley_chan *c1 = chan_of_longs(0), *c2 = chan_of_longs(0);
    struct net first = { .ch = { c1 } }, select = { .ch = { c1, c2 } }, later[2] = { { .ch = { c1 } }, { .ch = { c1 } } };

    actor_start(&first.actor, recv_first, &first);
    actor_waits(&first.actor);
    actor_start(&select.actor, select_of_two, &select);
    actor_waits(&select.actor);
    put(c2, 0);
    EXPECT(actor_result(&select.actor) == 1);
    for (int i = 0; i < 2; i++) {
        actor_start(&later[i].actor, recv_first, &later[i]);
        actor_waits(&later[i].actor);
    }
    for (int i = 0; i < 3; i++)
        put(c1, 0);
    EXPECT(actor_result(&first.actor) == 1 && actor_result(&later[0].actor) == 1 && actor_result(&later[1].actor) == 1);
    sley_chan_destroy(c1);
    sley_chan_destroy(c2);
}

/* TestSelectDuplicateChannel */
static int select_of_one_twice(void *arg)
{
    struct net *s = arg;
    sley_case on[3] = { sley_case_recv(s->ch[0], NULL), sley_case_recv(s->ch[0], NULL), sley_case_recv(s->ch[1], NULL) };

    return sley_select(on, 3, SLEY_FOREVER);
}

SCENARIO(a_select_may_name_a_channel_twice)
{
    for (int spsc = 0; spsc < 2; spsc++) {
        sley_chan *c = spsc ? sley_chan_create_spsc(sizeof(long), 1) : chan_of_longs(0), *d = chan_of_longs(0);
        struct net a = { .ch = { c, d } }, b = { .ch = { c } };

        actor_start(&a.actor, select_of_one_twice, &a);
        actor_waits(&a.actor);
        if (!spsc) {
            actor_start(&b.actor, recv_first, &b);
            actor_waits(&b.actor);
        }
        put(d, 7);
        EXPECT(actor_result(&a.actor) == 2);
        if (spsc)
            actor_start(&b.actor, recv_first, &b);
        put(c, 8);
        EXPECT(actor_result(&b.actor) == 1);
        actor_start(&a.actor, select_of_one_twice, &a);
        actor_waits(&a.actor);
        put(c, 9);
        EXPECT(actor_result(&a.actor) < 2);
        sley_chan_destroy(c);
        sley_chan_destroy(d);
    }
}

/* select7: every way to receive, and to drop, against every way to send. */

struct way {
    struct actor actor;
    sley_chan *ch;
    int how;
};

static int receive_somehow(void *arg)
{
    struct way *w = arg;
    sley_chan *never = chan_of_longs(0);
    long v = 0;
    sley_case on[3] = { sley_case_recv(w->ch, NULL), sley_case_recv(never, NULL), sley_case_send(NULL, NULL) };

    switch (w->how) {
    case 0: EXPECT(sley_chan_recv(w->ch, NULL, SLEY_FOREVER) == 1); break;
    case 1: EXPECT(sley_select(on, 1, SLEY_FOREVER) == 0 && on[0].result == 1); break;
    case 2: EXPECT(sley_select(on, 2, SLEY_FOREVER) == 0 && on[0].result == 1); break;
    case 3: EXPECT(sley_select_ordered(on, 3, SLEY_FOREVER) == 0 && on[0].result == 1); break;
    case 4: EXPECT(sley_chan_recv_n(w->ch, &v, 1, SLEY_FOREVER) == 1 && v == 1); break;
    }
    sley_chan_destroy(never);
    return 0;
}

SCENARIO(every_way_to_receive_meets_every_way_to_send)
{
    for (int how = 0; how < 20; how++) {
        sley_chan *ch = chan_of_longs(0), *never = chan_of_longs(0);
        struct way w = { .ch = ch, .how = how / 4 };
        long v = 1;
        sley_case on[2] = { sley_case_send(ch, &v), sley_case_recv(never, NULL) };

        actor_start(&w.actor, receive_somehow, &w);
        switch (how % 4) {
        case 0: EXPECT(sley_chan_send(ch, &v, SLEY_FOREVER) == 0); break;
        case 1: EXPECT(sley_select(on, 1, SLEY_FOREVER) == 0 && on[0].result == 0); break;
        case 2: EXPECT(sley_select(on, 2, SLEY_FOREVER) == 0 && on[0].result == 0); break;
        case 3: EXPECT(sley_chan_send_n(ch, &v, 1, SLEY_FOREVER) == 1); break;
        }
        actor_result(&w.actor);
        sley_chan_destroy(ch);
        sley_chan_destroy(never);
    }
}

/* --- races ------------------------------------------------------------------------------------------------------------------------ */

/* TestNonblockRecvRace: what is in a channel is there, whoever closes it meanwhile. */
static int try_to_receive(void *arg)
{
    sley_case on[1] = { sley_case_recv(arg, NULL) };

    return select_now(on, 1) < 0 ? -ETIMEDOUT : on[0].result;
}

SCENARIO(a_message_is_there_while_the_channel_is_closed)
{
    for (int round = 0; round < (scene.cast == FIBERS ? 2000 : 200); round++) {
        sley_chan *ch = round % 2 ? sley_chan_create_spsc(sizeof(long), 1) : chan_of_longs(1);
        struct actor tries;

        put(ch, 1);
        actor_start(&tries, try_to_receive, ch);
        sley_chan_close(ch);
        EXPECT(actor_result(&tries) == 1);
        EXPECT(sley_chan_recv(ch, NULL, SLEY_NOW) == 0);
        sley_chan_destroy(ch);
    }
}

/* TestSelfSelect: two selects that each send to and receive from one channel, equally often; without a buffer nobody gets what he sent. */
struct trader {
    struct actor actor;
    sley_chan *ch;
    long number;
    int n;
    bool is_buffered;
};

static int trade(void *arg)
{
    struct trader *t = arg;

    for (int i = 0; i < t->n; i++) {
        long v = -1;
        sley_case on[2] = { sley_case_send(t->ch, &t->number), sley_case_recv(t->ch, &v) };
        int at;

        if ((i + t->number) % 2) {
            sley_case swap = on[0];
            on[0] = on[1];
            on[1] = swap;
        }
        at = sley_select(on, 2, SLEY_FOREVER);
        EXPECT(at >= 0);
        if (at >= 0 && on[at].kind == SLEY_CASE_RECV)
            EXPECT(on[at].result == 1 && (t->is_buffered || v != t->number));
    }
    return 0;
}

SCENARIO(selects_on_both_ends_of_one_channel)
{
    for (int capacity = 0; capacity <= 10; capacity += 10) {
        sley_chan *ch = chan_of_longs(capacity);
        struct trader t[2];

        for (int i = 0; i < 2; i++) {
            t[i] = (struct trader){ .ch = ch, .number = i, .n = 1000, .is_buffered = capacity > 0 };
            actor_start(&t[i].actor, trade, &t[i]);
        }
        for (int i = 0; i < 2; i++)
            EXPECT(actor_result(&t[i].actor) == 0);
        sley_chan_destroy(ch);
    }
}

/* TestSelectStress: plain calls and selects on both ends of four channels. */

enum { STRESS_EACH = 2000 };

static int send_one_line(void *arg)
{
    struct link *l = arg;

    for (int i = 0; i < STRESS_EACH; i++)
        put(l->out, 0);
    return 0;
}

static int recv_one_line(void *arg)
{
    struct link *l = arg;

    for (int i = 0; i < STRESS_EACH; i++)
        get(l->in);
    return 0;
}

static int all_lines(struct net *s, bool sends)
{
    int left[4] = { STRESS_EACH, STRESS_EACH, STRESS_EACH, STRESS_EACH };
    long v = 0;

    for (int n = 0; n < 4 * STRESS_EACH; n++) {
        sley_case on[4];
        int i;

        for (i = 0; i < 4; i++)
            on[i] = sends ? sley_case_send(left[i] > 0 ? s->ch[i] : NULL, &v) : sley_case_recv(left[i] > 0 ? s->ch[i] : NULL, &v);
        i = sley_select(on, 4, SLEY_FOREVER);
        EXPECT(i >= 0 && on[i].result == (sends ? 0 : 1));
        if (i < 0)
            return i;
        left[i]--;
    }
    return 0;
}

static int send_all_lines(void *arg) { return all_lines(arg, true); }
static int recv_all_lines(void *arg) { return all_lines(arg, false); }

SCENARIO(selects_and_plain_calls_share_four_channels)
{
    static const size_t capacities[4] = { 0, 0, 2, 3 };
    struct link s[4], r[4];
    struct net in = { .n = 0 }, out;

    for (int i = 0; i < 4; i++)
        in.ch[i] = chan_of_longs(capacities[i]);
    out = in;
    for (int i = 0; i < 4; i++) {
        s[i] = (struct link){ .out = in.ch[i] };
        r[i] = (struct link){ .in = in.ch[i] };
        actor_start(&s[i].actor, send_one_line, &s[i]);
        actor_start(&r[i].actor, recv_one_line, &r[i]);
    }
    actor_start(&in.actor, send_all_lines, &in);
    actor_start(&out.actor, recv_all_lines, &out);
    EXPECT(actor_result(&in.actor) == 0 && actor_result(&out.actor) == 0);
    for (int i = 0; i < 4; i++) {
        actor_result(&s[i].actor);
        actor_result(&r[i].actor);
        EXPECT(sley_chan_len(in.ch[i]) == 0);
        sley_chan_destroy(in.ch[i]);
    }
}

/* chanlinear: very many wait for one channel and are served by another, over and over. */
static int wait_for_either(void *arg)
{
    struct net *s = arg;

    for (long i = 0; i < s->n; i++) {
        sley_case on[2] = { sley_case_recv(s->ch[0], NULL), sley_case_recv(s->ch[1], NULL) };

        EXPECT(sley_select(on, 2, SLEY_FOREVER) == 1);
    }
    return 0;
}

SCENARIO(many_selects_wait_for_one_channel)
{
    int n = scene.cast == FIBERS ? 5000 : 100;
    sley_chan *everybodys = chan_of_longs(0);
    struct net *s = calloc(n, sizeof *s);

    for (int i = 0; i < n; i++) {
        s[i] = (struct net){ .ch = { everybodys, chan_of_longs(0) }, .n = 4 };
        actor_start(&s[i].actor, wait_for_either, &s[i]);
    }
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < n; i++)
            put(s[i].ch[1], 0);
    for (int i = 0; i < n; i++) {
        actor_result(&s[i].actor);
        sley_chan_destroy(s[i].ch[1]);
    }
    EXPECT(sley_chan_send(everybodys, &(long){ 0 }, SLEY_NOW) == -ETIMEDOUT);
    sley_chan_destroy(everybodys);
    free(s);
}

/* --- chance ----------------------------------------------------------------------------------------------------------------------- */

enum { DRAWS = 100000 };

static void look_at_draws(const long *drawn, int arms) /* each within 5 % of its share */
{
    for (int i = 0; i < arms; i++)
        EXPECT(drawn[i] > 0.95 * DRAWS / arms && drawn[i] < 1.05 * DRAWS / arms);
}

SCENARIO(ready_arms_are_drawn_evenly)
{
    for (int arms = 2; arms <= 4; arms++) {
        sley_chan *in[4], *out[4], *never = chan_of_longs(0);
        long received[4] = { 0 }, sent[4] = { 0 }, v = 0;
        sley_case take[5], give[5];

        for (int i = 0; i < arms; i++) {
            in[i] = sley_chan_create(0, DRAWS);
            out[i] = sley_chan_create(0, DRAWS);
            EXPECT(sley_chan_send_n(in[i], NULL, DRAWS, SLEY_NOW) == DRAWS);
            take[i] = sley_case_recv(in[i], NULL);
            give[i] = sley_case_send(out[i], NULL);
        }
        take[arms] = sley_case_recv(never, &v);
        give[arms] = sley_case_recv(never, &v);
        for (int n = 0; n < DRAWS; n++) {
            int i = sley_select(take, arms + 1, SLEY_FOREVER), k = sley_select(give, arms + 1, SLEY_FOREVER);

            EXPECT(i >= 0 && i < arms && k >= 0 && k < arms);
            if (i < 0 || k < 0)
                break;
            received[i]++;
            sent[k]++;
        }
        look_at_draws(received, arms);
        look_at_draws(sent, arms);
        for (int i = 0; i < arms; i++) {
            sley_chan_destroy(in[i]);
            sley_chan_destroy(out[i]);
        }
        sley_chan_destroy(never);
    }
}

SCENARIO(an_ordered_select_takes_the_first_that_can_go)
{
    sley_chan *in[3];
    sley_case on[3];

    for (int i = 0; i < 3; i++) {
        in[i] = sley_chan_create(0, 1000);
        EXPECT(sley_chan_send_n(in[i], NULL, 1000, SLEY_NOW) == 1000);
        on[i] = sley_case_recv(in[i], NULL);
    }
    for (int n = 0; n < 3000; n++)
        EXPECT(sley_select_ordered(on, 3, SLEY_FOREVER) == n / 1000);
    for (int i = 0; i < 3; i++)
        sley_chan_destroy(in[i]);
}

/* TestPseudoRandomSend: one channel, two messages: which one goes is drawn, whether it waits or not. */
static int collect(void *arg)
{
    struct crowd *c = arg;

    for (long i = 0; i < c->to; i++) {
        give_way();
        c->seen[get(c->in)]++;
    }
    return 0;
}

SCENARIO(which_of_two_messages_goes_is_drawn)
{
    enum { N = 1000 };

    for (int capacity = 0; capacity <= N; capacity += N) {
        sley_chan *ch = chan_of_longs(capacity);
        long seen[2] = { 0, 0 }, zero = 0, one = 1;
        struct crowd c = { .in = ch, .to = N, .seen = seen };

        actor_start(&c.actor, collect, &c);
        for (int i = 0; i < N; i++) {
            sley_case on[2] = { sley_case_send(ch, &one), sley_case_send(ch, &zero) };

            EXPECT(sley_select(on, 2, SLEY_FOREVER) >= 0);
        }
        actor_result(&c.actor);
        EXPECT(seen[0] > N / 10 && seen[1] > N / 10 && seen[0] + seen[1] == N);
        sley_chan_destroy(ch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(no_channel_is_never_ready),
        PLAYED(empty_full_and_closed_wait_or_do_not),
        PLAYED(closed_channel_answers_every_call_and_arm),
        PLAYED(an_arm_that_is_ready_goes),
        PLAYED(unbuffered_channel_is_a_fifo),
        PLAYED(a_long_chain_hands_one_value_along),
        PLAYED(four_senders_and_four_receivers_pass_each_value_once),
        PLAYED(many_consumers_pass_all_on),
        PLAYED(a_chain_of_filters_leaves_the_primes),
        PLAYED(what_no_stream_of_multiples_has_is_prime),
        PLAYED(power_series_of_one_over_one_minus_x),
        PLAYED(power_series_defined_by_themselves),
        PLAYED(two_arms_of_one_select_never_both_go),
        PLAYED(arms_may_be_switched_off),
        PLAYED(a_select_that_won_elsewhere_leaves_no_hole),
        PLAYED(a_select_may_name_a_channel_twice),
        PLAYED(every_way_to_receive_meets_every_way_to_send),
        PLAYED(a_message_is_there_while_the_channel_is_closed),
        PLAYED(selects_on_both_ends_of_one_channel),
        PLAYED(selects_and_plain_calls_share_four_channels),
        PLAYED(many_selects_wait_for_one_channel),
        PLAYED(ready_arms_are_drawn_evenly),
        PLAYED(an_ordered_select_takes_the_first_that_can_go),
        PLAYED(which_of_two_messages_goes_is_drawn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
