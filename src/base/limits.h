/* limits.h - every bound of the library, with its reason. The model-size build makes queues so small that all their edges are
 * met in every test. */
#ifndef SL_LIMITS_H
#define SL_LIMITS_H

#ifdef SL_MODEL_SIZE
#define SL_DEQUE_CAP        4    /* power of two */
#define SL_REAP_MAX         2
#define SL_STACK_BATCH      2
#define SL_FIBER_BATCH      2
#define SL_SUBMIT_BATCH     2
#define SL_MAINTENANCE_TICK 5
#define SL_RING_SQ_DEFAULT  4
#define SL_RING_CQ_PER_SQ   2
#define SL_STREAM_BYTES     512
#define SL_STREAM_COPY_BYTES 1024
#define SL_STREAM_CACHED    2
#else
#define SL_DEQUE_CAP        256  /* one worker's ready fibers before its overflow list; power of two */
#define SL_REAP_MAX         32   /* completions copied under the CQ lock: a preempted helper must not keep the owner away for long */
#define SL_STACK_BATCH      32   /* stacks that move between a worker's cache and the depot at once */
#define SL_FIBER_BATCH      64   /* control blocks that move between a worker's cache and the shared list at once */
#define SL_SUBMIT_BATCH     32   /* SQEs after which a worker submits although it has work: 265 ns alone, 77 in a batch of 32 */
#define SL_MAINTENANCE_TICK 61   /* dispatches between two looks at ring, timers, inject queue and neighbour; odd and prime, so it
                                    does not beat with programs */
#define SL_RING_SQ_DEFAULT  256
#define SL_RING_CQ_PER_SQ   16   /* 4,096 completions for 256 submissions: overflow ends multishot polls */
#define SL_STREAM_BYTES     16384 /* a stream's buffer; sley/stream.h names it too */
#define SL_STREAM_COPY_BYTES 65536 /* pieces of a copy that has much: between sockets an eighth less processor time, all ends included */
#define SL_STREAM_CACHED    16   /* free ones kept by each part of the cache: as many as are in use at once by those who do not wait */
#endif

#define SL_INJECT_TAKE_MAX   64  /* fibers taken from the inject queue at once */
#define SL_DIRECT_STREAK     64  /* results without parking after which an I/O call yields */
#define SL_NEXT_STREAK       3   /* hand-overs through the next slot in a row while something else waits */
#define SL_WAKE_ALL_BATCH    32  /* waiters claimed under one lock hold */

#define SL_WORKERS_PER_GROUP 48  /* bits of sleepers in one idle word */
#define SL_WORKER_GROUPS     16
#define SL_WORKERS_MAX       (SL_WORKERS_PER_GROUP * SL_WORKER_GROUPS)

#define SL_RING_SQ_MIN       4
#define SL_RING_SQ_MAX       32768

#define SL_STACK_BYTES_DEFAULT ((size_t)128 << 10)
#define SL_STACK_BYTES_MIN     ((size_t)16 << 10)
#define SL_STACK_BYTES_MAX     ((size_t)8 << 20)
#define SL_GUARD_BYTES         ((size_t)16 << 10) /* one page is jumped over by code built without stack-clash protection */

#define SL_LOCAL_KEYS_MAX    1024 /* keys of fiber-local values in the process: as many as threads have (PTHREAD_KEYS_MAX); power of two */
#define SL_LOCAL_FEW         4    /* values that cost a fiber no allocation: they fill its stack's descriptor up to four cache lines */
#define SL_LOCAL_DROP_ROUNDS 4    /* how often the drops run again because they have set values; as PTHREAD_DESTRUCTOR_ITERATIONS */

#define SL_BLOCKING_THREADS_DEFAULT 64   /* calls that block at once: they wait, mostly, so more than there are processors */
#define SL_BLOCKING_THREADS_MAX     4096 /* each has a stack and is one of the machine's threads */
#define SL_BLOCKING_IDLE_NS         (INT64_C(10) * 1000 * 1000 * 1000) /* a thread without a call leaves */

#define SL_BIG_STACK_BYTES_MIN   ((size_t)64 << 10) /* smaller ones of sley_on_big_stack are made this large */
#define SL_BIG_STACK_BYTES_MAX   ((size_t)1 << 30)  /* what recurses deeper will not end */
#define SL_BIG_STACK_CACHE_BYTES ((size_t)16 << 20) /* free ones kept by the process, with the pages that they have touched */
#define SL_BIG_STACKS_CACHED     32                 /* ... and how many, because they are searched under a lock */

#define SL_STREAM_PARTS      16  /* of the cache of streams' buffers: with more workers several share one */
#define SL_STREAM_BYTES_MAX  ((size_t)1 << 30) /* what a stream holds at most of a line that does not end, or for a peek */

#define SL_BUFFER_SLOTS     256                /* pieces of memory registered with the rings; each ring has a table of them: 2 KB */
#define SL_BUFFER_BYTES_MAX ((size_t)256 << 20) /* ... of so many bytes at most: all of them have 64 GB of addresses */

#define SL_NAME_BYTES        32  /* a fiber's name with its NUL */
#define SL_COPY_INLINE_BYTES 64  /* arguments carried in the control block; more are allocated */

#define SL_WATCH_NS          (INT64_C(1) * 1000 * 1000)  /* the watcher's period */
#define SL_WATCH_IDLE_NS     (INT64_C(10) * 1000 * 1000) /* ... after a while without a find */
#define SL_TIMER_ARMING_NS   INT64_C(20000)              /* a timer that met a fiber on its way to sleep looks again after this */
#define SL_TIMER_RUNNING_NS  INT64_C(1000000)            /* a stale timer of a fiber that runs */
#define SL_STARVED_NS        (INT64_C(10) * 1000 * 1000) /* a fiber that got no stack tries again */

#endif
