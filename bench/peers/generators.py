#!/usr/bin/env python3
"""Peer of bench_gen.c: Python's own generators, the same rows.

usage: generators.py [NAME]"""
import sys
import time

from asyncio_loops import SAMPLES, check, cpu_ns, print_series


def add_one():
    out = 0
    while True:
        out = (yield out) + 1


def count():
    x = 0
    while True:
        yield x
        x += 1


def send(n):
    g = add_one()
    x = next(g)
    for _ in range(n):
        x = g.send(x)
    check(x == n, 'sum')


def ask(n):
    g = count()
    total = 0
    for _ in range(n):
        total += next(g)
    check(total == n * (n - 1) // 2, 'sum')


def make(n):
    for _ in range(n):
        g = count()
        check(next(g) == 0, 'value')
        g.close()


def take_sample(sample, n):
    cpu_before, before = cpu_ns(), time.monotonic_ns()
    sample(n)
    return (time.monotonic_ns() - before) / n, (cpu_ns() - cpu_before) / n


ROWS = [
    ('gen-send', 'bytes=8', send, 400000),
    ('gen-next', 'bytes=8', ask, 400000),
    ('gen-make', '', make, 100000),
]


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    print('name\tparams\tworkers\tn\tunit\tmedian\tp99\tcpu\tallocs\tsamples', flush=True)
    for row, params, sample, n in ROWS:
        if name in f'{row} {params}':
            take_sample(sample, n)
            print_series(row, params, n, [take_sample(sample, n) for _ in range(SAMPLES)])


main()
