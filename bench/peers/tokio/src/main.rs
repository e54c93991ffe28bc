//! Peer of bench_select.c, bench_task_await.c and bench_time_sleepers.c.
mod harness;

use harness::{check, Bench, Kind};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

async fn produce(out: mpsc::Sender<u64>, n: u64) {
    for x in 0..n {
        check(out.send(x).await.is_ok(), "send");
    }
}

async fn select_over_two(n: u64) {
    let (left_in, mut left) = mpsc::channel(1024);
    let (right_in, mut right) = mpsc::channel(1024);
    let mut next = [0u64; 2];
    let mut out_of_order = 0;

    tokio::spawn(produce(left_in, n / 2));
    tokio::spawn(produce(right_in, n / 2));
    loop {
        tokio::select! {
            Some(x) = left.recv() => {
                out_of_order += (x != next[0]) as u64;
                next[0] += 1;
            }
            Some(x) = right.recv() => {
                out_of_order += (x != next[1]) as u64;
                next[1] += 1;
            }
            else => break, // both are closed and empty
        }
    }
    check(out_of_order == 0 && next == [n / 2; 2], "messages");
}

async fn spawn_and_await(n: u64) {
    for i in 0..n {
        check(tokio::spawn(async move { i + 1 }).await.ok() == Some(i + 1), "outcome");
    }
}

async fn sleep_all(n: u64) {
    let opened = Instant::now();
    let asleep: Vec<_> = (0..n)
        .map(|i| {
            tokio::spawn(async move {
                let wait = Duration::from_millis(1 + i % 100);
                tokio::time::sleep(wait).await;
                opened.elapsed() >= wait
            })
        })
        .collect();

    for one in asleep {
        check(one.await.ok() == Some(true), "a sleep too short");
    }
}

const fn select(workers: usize) -> Bench {
    let params = "channels=2 capacity=1024";
    Bench { name: "select", params, workers, n: 400_000, kind: Kind::Steady, sample: |n| Box::pin(select_over_two(n)) }
}

const fn task_await(workers: usize) -> Bench {
    Bench { name: "task-await", params: "", workers, n: 100_000, kind: Kind::Steady, sample: |n| Box::pin(spawn_and_await(n)) }
}

const fn sleepers(workers: usize) -> Bench {
    Bench { name: "sleepers", params: "1-100ms", workers, n: 200_000, kind: Kind::Rounds, sample: |n| Box::pin(sleep_all(n)) }
}

fn main() {
    harness::run(&[select(1), select(2), task_await(1), task_await(2), sleepers(1), sleepers(2)]);
}
