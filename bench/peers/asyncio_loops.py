#!/usr/bin/env python3
"""Peer of bench_task_await.c and bench_time_sleepers.c on Python's event loops: the same rows.

usage: asyncio_loops.py asyncio|uvloop [NAME [round]]"""
import asyncio
import math
import resource
import subprocess
import sys
import time

SAMPLES = 25


def check(right, what):
    if not right:
        sys.exit(f'wrong result: {what}')


async def follow(i):
    return i + 1


async def spawn_and_await(n):
    for i in range(n):
        check(await asyncio.create_task(follow(i)) == i + 1, 'outcome')


async def sleep_once(opened, wait_ms):
    await asyncio.sleep(wait_ms / 1000)
    return time.monotonic_ns() - opened >= wait_ms * 1000000


async def sleep_all(n):
    opened = time.monotonic_ns()
    asleep = [asyncio.create_task(sleep_once(opened, 1 + i % 100)) for i in range(n)]
    for one in asleep:
        check(await one, 'a sleep too short')


def cpu_ns():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return 1e9 * (u.ru_utime + u.ru_stime)


async def take_sample(sample, n):
    cpu_before, before = cpu_ns(), time.monotonic_ns()
    await sample(n)
    return (time.monotonic_ns() - before) / n, (cpu_ns() - cpu_before) / n


def nearest_rank(values, part):
    return sorted(values)[math.ceil(part * len(values)) - 1]


def print_series(name, params, n, series):
    ns, cpu = zip(*series)
    median, p99 = nearest_rank(ns, 0.5), nearest_rank(ns, 0.99)
    print(f'{name}\t{params}\t1\t{n}\tns\t{median:.2f}\t{p99:.2f}\t{nearest_rank(cpu, 0.5):.2f}\t-\t{len(ns)}', flush=True)


async def run_steadily(name, params, n, sample):
    await take_sample(sample, n)
    print_series(name, params, n, [await take_sample(sample, n) for _ in range(SAMPLES)])


async def run_two_rounds(name, params, n, sample):
    for number in (1, 2):
        print_series(name, f'{params} round={number}', n, [await take_sample(sample, n)])


ROWS = [
    ('task-await', '', 20000, spawn_and_await, run_steadily),
    ('sleepers', '1-100ms', 200000, sleep_all, run_two_rounds),
]


def main():
    system, wanted = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ''
    alone = len(sys.argv) > 3 # a process of its own for the rounds
    if system == 'uvloop':
        import uvloop
        uvloop.install()
    if not alone:
        print('name\tparams\tworkers\tn\tunit\tmedian\tp99\tcpu\tallocs\tsamples', flush=True)
    for name, params, n, sample, run in ROWS:
        if wanted not in f'{name} {params}':
            continue
        if run is run_two_rounds and not alone:
            subprocess.run([sys.executable, __file__, system, f'{name} {params}', 'round'], check=True)
        else:
            asyncio.run(run(name, params, n, sample))


if __name__ == '__main__':
    main()
