/* stress_chan.c - many senders and receivers, fibers and threads, every form of call, selects, timeouts and closes that race with them:
 * every message that went comes exactly once, whole, and in the order in which its sender sent it; on channels of every kind, with and
 * without a descriptor. The seed decides what each of them does. */
#include "../scenario.h"

#include <poll.h>

enum { ROUNDS = 40, ENDS_MAX = 6, EACH = 1200, BATCH = 7, WORDS_MAX = 8 };

static uint64_t seed;

static struct {
    sley_chan *ch;
    size_t words;  /* of a message; 0: no bytes, only counted */
    int senders, receivers;
    int close_early;
    int watched;   /* its descriptor is asked for meanwhile */
    _Atomic(int) sending;
    _Atomic(unsigned) came; /* messages received */
    _Atomic(unsigned char) seen[ENDS_MAX][EACH];
} line;

struct end {
    struct actor actor;
    int number;
    unsigned went; /* messages sent */
    uint64_t random;
};

static void write_message(uint64_t *m, uint64_t id)
{
    for (size_t w = 0; w < line.words; w++)
        m[w] = w == 0 ? id : mix(id + w);
}

static sley_time some_deadline(uint64_t *random)
{
    switch (below(random, 4)) {
    case 0: return SLEY_NOW;
    case 1: return sley_after(below(random, 30) * SLEY_US);
    default: return SLEY_FOREVER;
    }
}

/* One message by a select that has no other arm that could go. As the plain call. */
static int select_one(sley_case arm, sley_time deadline)
{
    sley_case on[2] = { sley_case_recv(NULL, NULL), arm };
    int i = sley_select(on, 2, deadline);

    EXPECT(i < 0 || i == 1);
    return i < 0 ? i : on[1].result;
}

static int sender(void *arg)
{
    struct end *e = arg;
    uint64_t m[BATCH * WORDS_MAX];
    int rc = 0;

    while (e->went < EACH) {
        unsigned n = below(&e->random, 3) ? 1 : 1 + below(&e->random, BATCH);
        sley_time deadline = some_deadline(&e->random);

        if (n > EACH - e->went)
            n = EACH - e->went;
        for (unsigned i = 0; i < n; i++)
            write_message(m + i * line.words, (uint64_t)e->number << 32 | (e->went + i));
        if (n == 1 && below(&e->random, 2)) {
            rc = below(&e->random, 2) ? sley_chan_send(line.ch, m, deadline) : select_one(sley_case_send(line.ch, m), deadline);
            rc = rc == 0 ? 1 : rc;
        } else {
            rc = sley_chan_send_n(line.ch, m, n, deadline);
        }
        if (rc == -EPIPE)
            break;
        EXPECT(rc > 0 ? rc <= (int)n : rc == -ETIMEDOUT && deadline != SLEY_FOREVER);
        if (rc > 0)
            e->went += rc;
        else
            give_way();
    }
    EXPECT(rc != -EPIPE || line.close_early);
    if (--line.sending == 0)
        sley_chan_close(line.ch);
    return 0;
}

static void look_at_message(const uint64_t *m, unsigned *next)
{
    unsigned from = m[0] >> 32, number = (uint32_t)m[0];

    EXPECT(from < (unsigned)line.senders && number < EACH);
    if (from >= (unsigned)line.senders || number >= EACH)
        return;
    for (size_t w = 1; w < line.words; w++)
        EXPECT(m[w] == mix(m[0] + w));
    EXPECT(number >= next[from]); /* what one sender sent stays in order */
    next[from] = number + 1;
    EXPECT(line.seen[from][number]++ == 0);
}

static int receiver(void *arg)
{
    struct end *e = arg;
    uint64_t m[BATCH * WORDS_MAX];
    unsigned next[ENDS_MAX] = { 0 };
    int rc = -1;

    while (rc != 0) {
        unsigned n = below(&e->random, 3) ? 1 : 1 + below(&e->random, BATCH);
        sley_time deadline = some_deadline(&e->random);

        if (n == 1 && below(&e->random, 2))
            rc = below(&e->random, 2) ? sley_chan_recv(line.ch, m, deadline) : select_one(sley_case_recv(line.ch, m), deadline);
        else
            rc = sley_chan_recv_n(line.ch, m, n, deadline);
        EXPECT(rc >= 0 ? rc <= (int)n : rc == -ETIMEDOUT && deadline != SLEY_FOREVER);
        if (rc > 0)
            line.came += rc;
        for (int i = 0; i < rc && line.words > 0; i++)
            look_at_message(m + i * line.words, next);
        if (rc < 0)
            give_way();
    }
    return 0;
}

/* Close while they send and receive, after as many messages as chance will have it. */
static int closer(void *arg)
{
    struct end *e = arg;
    unsigned after = below(&e->random, line.senders * EACH);

    while (line.came < after && line.sending > 0)
        give_way();
    sley_chan_close(line.ch);
    return 0;
}

/* The descriptor is right whenever nothing happens: here, at the end. */
static void look_at_descriptor(void)
{
    struct pollfd p = { .fd = sley_chan_fd(line.ch), .events = POLLIN };

    EXPECT(p.fd >= 0 && poll(&p, 1, 0) == 1); /* it is closed */
}

static int watcher(void *arg)
{
    struct end *e = arg;
    unsigned after = below(&e->random, line.senders * EACH);

    while (line.came < after && line.sending > 0)
        give_way();
    EXPECT(sley_chan_fd(line.ch) >= 0);
    return 0;
}

SCENARIO(chan_stress_every_message_comes_once)
{
    static const size_t capacities[] = { 0, 0, 1, 2, 3, 7, 64, 1024 }, words[] = { 1, 1, 2, 3, 4, 8, 0 };
    static struct end senders[ENDS_MAX], receivers[ENDS_MAX], ender, asker;
    int rounds = scene.cast == FIBER_AND_THREADS ? ROUNDS / 4 : ROUNDS; /* there the kernel is asked for almost every message */

    for (int round = 0; round < rounds; round++) {
        uint64_t random = mix(seed + round);
        unsigned went = 0;

        memset(&line, 0, sizeof line);
        line.words = words[below(&random, 7)];
        if (below(&random, 3) == 0) {
            line.ch = sley_chan_create_spsc(line.words * 8, capacities[below(&random, 8)]);
            line.senders = line.receivers = 1;
        } else {
            line.ch = sley_chan_create(line.words * 8, capacities[below(&random, 8)]);
            line.senders = 1 + below(&random, ENDS_MAX);
            line.receivers = 1 + below(&random, ENDS_MAX);
        }
        line.close_early = below(&random, 3) == 0;
        line.watched = below(&random, 4) == 0;
        line.sending = line.senders;
        if (line.watched) {
            asker = (struct end){ .random = mix(random) };
            actor_start(&asker.actor, watcher, &asker);
        }
        for (int i = 0; i < line.senders + line.receivers + line.close_early; i++) {
            int n = i < line.senders ? i : i - line.senders;
            struct end *e = i < line.senders ? &senders[n] : n < line.receivers ? &receivers[n] : &ender;

            *e = (struct end){ .number = n, .random = mix(random + i) };
            actor_start_as(&e->actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && below(&random, 2)),
                           e == &ender ? closer : i < line.senders ? sender : receiver, e);
        }
        for (int i = 0; i < line.senders; i++)
            actor_result(&senders[i].actor);
        for (int i = 0; i < line.receivers; i++)
            actor_result(&receivers[i].actor);
        if (line.close_early)
            actor_result(&ender.actor);
        if (line.watched) {
            actor_result(&asker.actor);
            look_at_descriptor();
        }
        for (int i = 0; i < line.senders; i++) {
            went += senders[i].went;
            for (unsigned n = 0; n < EACH && line.words > 0; n++)
                EXPECT(line.seen[i][n] == (n < senders[i].went));
        }
        EXPECT(line.came == went);
        EXPECT(sley_chan_len(line.ch) == 0);
        sley_chan_destroy(line.ch);
    }
}

/* Tokens go round through one channel, each time with one more on them: in long bursts of one after the other and of several at once. */

enum { TOKENS = 5, PLAYERS_MAX = 4, BURSTS = 12, BURST_MAX = 3000 };

static struct {
    sley_chan *ch;
    _Atomic(uint64_t) steps;
} ring;

static int player(void *arg)
{
    struct end *e = arg;
    uint64_t token;

    for (int burst = 0; burst < BURSTS; burst++) {
        for (uint32_t i = below(&e->random, BURST_MAX); i > 0; i--) {
            EXPECT(sley_chan_recv(ring.ch, &token, SLEY_FOREVER) == 1);
            token++;
            EXPECT(sley_chan_send(ring.ch, &token, SLEY_FOREVER) == 0);
            ring.steps++;
        }
        for (uint32_t i = below(&e->random, 200); i > 0; i--)
            give_way();
    }
    return 0;
}

SCENARIO(chan_stress_tokens_are_neither_lost_nor_doubled)
{
    struct end players[PLAYERS_MAX];

    for (int count = 1; count <= PLAYERS_MAX; count++) {
        uint64_t random = mix(seed + count), token = 0, sum = 0;

        ring.ch = sley_chan_create(sizeof token, TOKENS + below(&random, 3));
        ring.steps = 0;
        for (int i = 0; i < TOKENS; i++)
            EXPECT(sley_chan_send(ring.ch, &token, SLEY_NOW) == 0);
        for (int i = 0; i < count; i++) {
            players[i] = (struct end){ .random = mix(random + i) };
            actor_start_as(&players[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), player, &players[i]);
        }
        for (int i = 0; i < count; i++)
            EXPECT(actor_result(&players[i].actor) == 0);
        for (int i = 0; i < TOKENS; i++) {
            EXPECT(sley_chan_recv(ring.ch, &token, SLEY_NOW) == 1);
            sum += token;
        }
        EXPECT(sley_chan_len(ring.ch) == 0 && sum == ring.steps);
        sley_chan_destroy(ring.ch);
    }
}

/* --- selects over several channels ---------------------------------------------------------------------------------------------- */

enum { LINES = 4, CHOOSERS = 4, CHOSEN_EACH = 1500 };

static struct {
    sley_chan *ch[LINES];
    _Atomic(int) sending;
    _Atomic(uint64_t) went, came, sum_in, sum_out;
} net;

/* Send by select over all, or by a plain call on one, with and without deadlines. */
static int choosing_sender(void *arg)
{
    struct end *e = arg;
    sley_case on[LINES];

    while (e->went < CHOSEN_EACH) {
        uint64_t m = mix(e->random);
        sley_time deadline = some_deadline(&e->random);
        int rc;

        for (int i = 0; i < LINES; i++)
            on[i] = sley_case_send(net.ch[i], &m);
        if (below(&e->random, 3)) {
            rc = below(&e->random, 4) ? sley_select(on, LINES, deadline) : sley_select_ordered(on, LINES, deadline);
            EXPECT(rc < 0 || (rc < LINES && on[rc].result == 0));
        } else {
            rc = sley_chan_send(net.ch[below(&e->random, LINES)], &m, deadline);
        }
        EXPECT(rc >= 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        if (rc >= 0) {
            e->went++;
            net.went++;
            net.sum_in += m;
        } else {
            give_way();
        }
    }
    if (--net.sending == 0)
        for (int i = 0; i < LINES; i++)
            sley_chan_close(net.ch[i]);
    return 0;
}

static int choosing_receiver(void *arg)
{
    struct end *e = arg;
    sley_case on[LINES];
    uint64_t m;
    int open = LINES;

    for (int i = 0; i < LINES; i++)
        on[i] = sley_case_recv(net.ch[i], &m);
    while (open > 0) {
        sley_time deadline = some_deadline(&e->random);
        int rc = below(&e->random, 4) ? sley_select(on, LINES, deadline) : sley_select_ordered(on, LINES, deadline);

        EXPECT(rc >= 0 ? rc < LINES : rc == -ETIMEDOUT && deadline != SLEY_FOREVER);
        if (rc >= 0 && on[rc].result == 1) {
            net.came++;
            net.sum_out += m;
        } else if (rc >= 0) {
            EXPECT(on[rc].result == 0);
            on[rc] = sley_case_recv(NULL, NULL);
            open--;
        } else {
            give_way();
        }
    }
    return 0;
}

SCENARIO(chan_stress_selects_lose_and_double_nothing)
{
    static struct end ends[2 * CHOOSERS];
    int rounds = scene.cast == FIBER_AND_THREADS ? 2 : 6;

    for (int round = 0; round < rounds; round++) {
        uint64_t random = mix(seed + 1000 + round);

        memset(&net, 0, sizeof net);
        net.sending = CHOOSERS;
        for (int i = 0; i < LINES; i++)
            net.ch[i] = sley_chan_create(8, round % 2 ? below(&random, 4) : 0);
        for (int i = 0; i < 2 * CHOOSERS; i++) {
            ends[i] = (struct end){ .number = i, .random = mix(random + i) };
            actor_start_as(&ends[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 3 == 0),
                           i < CHOOSERS ? choosing_sender : choosing_receiver, &ends[i]);
        }
        for (int i = 0; i < 2 * CHOOSERS; i++)
            EXPECT(actor_result(&ends[i].actor) == 0);
        EXPECT(net.went == CHOOSERS * CHOSEN_EACH && net.came == net.went && net.sum_in == net.sum_out);
        for (int i = 0; i < LINES; i++)
            sley_chan_destroy(net.ch[i]);
    }
}

/* Every one of them may send to and receive from every channel, and so meets the others crosswise, and itself. With a buffer something may
 * be left in it at the end. */
static int trader(void *arg)
{
    struct end *e = arg;
    unsigned gave = 0, took = 0;
    uint64_t in, out;

    while (gave < CHOSEN_EACH || took < CHOSEN_EACH) {
        sley_case on[2 * LINES];
        int rc;

        out = mix(e->random + 1);
        for (int i = 0; i < LINES; i++) {
            on[2 * i] = sley_case_send(gave < CHOSEN_EACH ? net.ch[i] : NULL, &out);
            on[2 * i + 1] = sley_case_recv(took < CHOSEN_EACH ? net.ch[i] : NULL, &in);
        }
        rc = sley_select(on, 2 * LINES, some_deadline(&e->random));
        EXPECT(rc >= 0 || rc == -ETIMEDOUT);
        if (rc < 0) {
            give_way();
        } else if (rc % 2 == 0) {
            EXPECT(on[rc].result == 0);
            net.sum_in += out;
            gave++;
        } else {
            EXPECT(on[rc].result == 1);
            net.sum_out += in;
            took++;
        }
    }
    return 0;
}

/* Without a buffer the last one left would wait for itself for ever: here is a partner. */
static void trade_with_the_last(struct end *ends, int n, uint64_t *random)
{
    int done = 0;

    while (done < n) {
        uint64_t in, out = mix(*random);
        unsigned i = below(random, LINES);

        if (sley_chan_recv(net.ch[i], &in, SLEY_NOW) == 1)
            net.sum_out += in;
        if (sley_chan_send(net.ch[i], &out, SLEY_NOW) == 0)
            net.sum_in += out;
        give_way();
        done = 0;
        for (int k = 0; k < n; k++)
            done += ends[k].actor.done;
    }
}

SCENARIO(chan_stress_selects_meet_crosswise)
{
    static struct end ends[CHOOSERS];
    int rounds = scene.cast == FIBER_AND_THREADS ? 2 : 6;

    for (int round = 0; round < rounds; round++) {
        uint64_t random = mix(seed + 2000 + round), in;

        memset(&net, 0, sizeof net);
        for (int i = 0; i < LINES; i++)
            net.ch[i] = sley_chan_create(8, round % 2 ? below(&random, 3) : 0);
        for (int i = 0; i < CHOOSERS; i++) {
            ends[i] = (struct end){ .number = i, .random = mix(random + i) };
            actor_start_as(&ends[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), trader, &ends[i]);
        }
        trade_with_the_last(ends, CHOOSERS, &random);
        for (int i = 0; i < CHOOSERS; i++)
            EXPECT(actor_result(&ends[i].actor) == 0);
        for (int i = 0; i < LINES; i++) {
            while (sley_chan_recv(net.ch[i], &in, SLEY_NOW) == 1)
                net.sum_out += in;
            sley_chan_destroy(net.ch[i]);
        }
        EXPECT(net.sum_in == net.sum_out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(chan_stress_every_message_comes_once),
        PLAYED(chan_stress_tokens_are_neither_lost_nor_doubled),
        PLAYED(chan_stress_selects_lose_and_double_nothing),
        PLAYED(chan_stress_selects_meet_crosswise),
    };

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
