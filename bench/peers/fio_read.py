#!/usr/bin/env python3
"""fio's io_uring engine doing what bench_file_read does: one thread, reads of 4 KB at random places of one file, as many at once.

usage: fio_read.py FILE [NAME]

FILE is the one that bench_file_read has made. fio takes what makes it fast: no map of what it has read, few looks at the clock, as many
submitted and reaped at once as there are."""
import json
import subprocess
import sys

SECONDS = 2
ROWS = [(how, depth) for how in ('buffered', 'direct', 'direct fixed') for depth in (1, 16, 64)]


def measure(path, how, depth):
    command = ['fio', '--name=read', f'--filename={path}', '--readonly', '--rw=randread', '--bs=4k', '--ioengine=io_uring', '--thread',
               f'--iodepth={depth}', f'--iodepth_batch_submit={depth}', '--iodepth_batch_complete_min=1',
               f'--iodepth_batch_complete_max={depth}', f'--direct={int("direct" in how)}', f'--fixedbufs={int("fixed" in how)}',
               '--invalidate=0', '--norandommap', '--randrepeat=0', '--gtod_reduce=1', '--time_based', f'--runtime={SECONDS}',
               '--ramp_time=300ms', '--output-format=json']
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f'fio: {(done.stderr or done.stdout).strip()}')
    job = json.loads(done.stdout)['jobs'][0]
    read = job['read']
    busy_ns = (job['usr_cpu'] + job['sys_cpu']) / 100 * read['runtime'] * 1e6
    return read['total_ios'], 1e9 / read['iops'], busy_ns / read['total_ios']


def main():
    wanted = sys.argv[2] if len(sys.argv) > 2 else ''
    print('name\tparams\tworkers\tn\tunit\tmedian\tp99\tcpu\tallocs\tsamples')
    for how, depth in ROWS:
        params = f'{how} depth={depth}'
        if wanted in f'file-read {params}':
            count, ns, cpu_ns = measure(sys.argv[1], how, depth)
            print(f'file-read\t{params}\t1\t{count}\tns\t{ns:.2f}\t-\t{cpu_ns:.2f}\t-\t1', flush=True)


if __name__ == '__main__':
    main()
