// boost_fiber.cpp - peer of the benches whose work Boost.Fiber can do, on one thread: the same rows.
#include <boost/fiber/all.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <sys/resource.h>
#include <vector>

namespace fibers = boost::fibers;

static uint64_t allocations;

void *operator new(std::size_t bytes)
{
    allocations++;
    if (void *p = std::malloc(bytes))
        return p;
    throw std::bad_alloc();
}

void operator delete(void *p) noexcept { std::free(p); }
void operator delete(void *p, std::size_t) noexcept { std::free(p); }

static void check(bool right, const char *what)
{
    if (!right) {
        std::fprintf(stderr, "wrong result: %s\n", what);
        std::exit(1);
    }
}

static double cpu_ns()
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return 1e9 * double(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e3 * double(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double nearest_rank(std::vector<double> &values, double part)
{
    std::sort(values.begin(), values.end());
    return values[std::size_t(std::ceil(part * double(values.size()))) - 1];
}

static void measure(const char *wanted, const char *name, const char *params, uint64_t n, void (*sample)(uint64_t))
{
    std::vector<double> ns, cpu;

    if ((std::string(name) + " " + params).find(wanted) == std::string::npos)
        return;
    sample(n);
    uint64_t allocations_before = allocations, allocations_own = 0;
    for (int i = 0; i < 25; i++) {
        double cpu_before = cpu_ns();
        auto before = std::chrono::steady_clock::now();
        sample(n);
        std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - before;
        double cpu_took = cpu_ns() - cpu_before;
        uint64_t at = allocations;
        ns.push_back(took.count() / double(n));
        cpu.push_back(cpu_took / double(n));
        allocations_own += allocations - at;
    }
    double each = double(allocations - allocations_before - allocations_own) / (25 * double(n));
    double median = nearest_rank(ns, 0.5), p99 = nearest_rank(ns, 0.99);
    std::printf("%s\t%s\t1\t%llu\tns\t%.2f\t%.2f\t%.2f\t%.3f\t%zu\n", name, params, (unsigned long long)n, median, p99,
                nearest_rank(cpu, 0.5), each, ns.size());
    std::fflush(stdout);
}

static void yield_in_turn(uint64_t n)
{
    int last = -1;
    uint64_t out_of_turn = 0;
    auto take_turns = [&](int me) {
        for (uint64_t i = 0; i < n / 2; i++) {
            out_of_turn += last == me;
            last = me;
            boost::this_fiber::yield();
        }
    };
    fibers::fiber first(take_turns, 0), second(take_turns, 1);

    first.join();
    second.join();
    check(out_of_turn <= 1, "turns");
}

static void spawn_and_join(uint64_t n)
{
    uint64_t ran = 0;

    for (uint64_t i = 0; i < n; i++) {
        fibers::fiber([&] { ran++; }).join();
        check(ran == i + 1, "ran");
    }
}

static void round_trips(uint64_t n)
{
    fibers::unbuffered_channel<uint64_t> question, answer;
    fibers::fiber other([&] {
        for (uint64_t x : question)
            answer.push(x + 1);
    });
    uint64_t x = 0;

    for (uint64_t i = 0; i < n; i++) {
        question.push(x);
        answer.pop(x);
    }
    question.close();
    other.join();
    check(x == n, "count");
}

static void through(uint64_t n, unsigned side)
{
    fibers::buffered_channel<uint64_t> ch(1024);
    std::vector<fibers::fiber> producers, consumers;
    uint64_t sent = 0, received = 0, count = 0;

    for (unsigned i = 0; i < side; i++) {
        consumers.emplace_back([&] {
            for (uint64_t x : ch) {
                received += x;
                count++;
            }
        });
        producers.emplace_back([&] {
            for (uint64_t x = 0; x < n / side; x++) {
                ch.push(x);
                sent += x;
            }
        });
    }
    for (auto &f : producers)
        f.join();
    ch.close();
    for (auto &f : consumers)
        f.join();
    check(sent == received && count == n, "messages");
}

int main(int argc, char **argv)
{
    const char *wanted = argc > 1 ? argv[1] : "";

    std::puts("name\tparams\tworkers\tn\tunit\tmedian\tp99\tcpu\tallocs\tsamples");
    measure(wanted, "yield", "fibers=2", 1000000, yield_in_turn);
    measure(wanted, "spawn-join", "", 100000, spawn_and_join);
    measure(wanted, "chan-round-trip", "capacity=0", 100000, round_trips);
    measure(wanted, "chan-buffered", "1:1 capacity=1024", 400000, [](uint64_t n) { through(n, 1); });
    measure(wanted, "chan-buffered", "4:4 capacity=1024", 400000, [](uint64_t n) { through(n, 4); });
}
