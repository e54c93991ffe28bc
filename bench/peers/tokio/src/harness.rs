//! What bench/harness.c is for Sley: the same rows, for Tokio.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

const SAMPLES: usize = 25;

// --- allocations ------------------------------------------------------------------------------------------------------------------

/// A counter a thread, so that counting costs no more than a store; a thread beyond the last shares it and may lose some.
struct Counting;

#[repr(align(64))]
struct Count(AtomicU64);

#[allow(clippy::declare_interior_mutable_const)]
const NONE: Count = Count(AtomicU64::new(0));
static COUNTS: [Count; 16] = [NONE; 16];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn count_one() {
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(THREADS.fetch_add(1, Relaxed).min(COUNTS.len() - 1));
        }
        let count = &COUNTS[mine.get()].0;
        count.store(count.load(Relaxed) + 1, Relaxed);
    });
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        System.alloc_zeroed(layout)
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count_one();
        System.realloc(p, layout, bytes)
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        System.dealloc(p, layout)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    COUNTS.iter().map(|count| count.0.load(Relaxed)).sum()
}

// --- measuring --------------------------------------------------------------------------------------------------------------------

pub type Sample = fn(u64) -> Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Steady, // one sample to warm up, then those that count
    Rounds, // a new process: one row for the first sample, one for the second
}

pub struct Bench {
    pub name: &'static str,
    pub params: &'static str,
    pub workers: usize,
    pub n: u64,
    pub kind: Kind,
    pub sample: Sample,
}

pub fn check(right: bool, what: &str) {
    if !right {
        eprintln!("wrong result: {what}");
        std::process::exit(1);
    }
}

fn cpu_time() -> Duration {
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    let part = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);

    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
    part(u.ru_utime) + part(u.ru_stime)
}

#[derive(Default)]
struct Series {
    ns: Vec<f64>,
    cpu_ns: Vec<f64>,
    allocations: f64,
}

/// On a task of the runtime, so that none of the work runs on the thread that waits for it.
fn take_sample(runtime: &Runtime, b: &Bench, series: &mut Series) {
    let allocations_before = allocations();
    let cpu_before = cpu_time();
    let before = Instant::now();
    let right = runtime.block_on(async { tokio::spawn((b.sample)(b.n)).await.is_ok() });
    let took = before.elapsed();
    let cpu_took = cpu_time() - cpu_before;
    check(right, b.name);
    series.ns.push(took.as_nanos() as f64 / b.n as f64);
    series.cpu_ns.push(cpu_took.as_nanos() as f64 / b.n as f64);
    series.allocations += (allocations() - allocations_before) as f64 / b.n as f64;
}

fn nearest_rank(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(part * values.len() as f64).ceil() as usize - 1]
}

fn print_series(b: &Bench, params: &str, s: &mut Series) {
    let (name, workers, n, count) = (b.name, b.workers, b.n, s.ns.len());
    let (median, p99) = (nearest_rank(&mut s.ns, 0.5), nearest_rank(&mut s.ns, 0.99));
    let (cpu, allocations) = (nearest_rank(&mut s.cpu_ns, 0.5), s.allocations / count as f64);
    println!("{name}\t{params}\t{workers}\t{n}\tns\t{median:.2}\t{p99:.2}\t{cpu:.2}\t{allocations:.3}\t{count}");
}

fn new_runtime(workers: usize) -> Runtime {
    let mut builder = if workers == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };

    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.enable_time().build().expect("a runtime")
}

fn run_steadily(b: &Bench) {
    let runtime = new_runtime(b.workers);
    let mut series = Series::default();

    take_sample(&runtime, b, &mut Series::default());
    for _ in 0..SAMPLES {
        take_sample(&runtime, b, &mut series);
    }
    print_series(b, b.params, &mut series);
}

fn run_two_rounds(b: &Bench) {
    let runtime = new_runtime(b.workers);

    for round in ["round=1", "round=2"] {
        let mut series = Series::default();
        take_sample(&runtime, b, &mut series);
        print_series(b, format!("{} {round}", b.params).trim(), &mut series);
    }
}

/// usage: PROGRAM [NAME [WORKERS]]. With WORKERS, the rows are rounds, and this process is theirs alone.
pub fn run(benches: &[Bench]) {
    let arguments: Vec<String> = std::env::args().collect();
    let wanted = arguments.get(1).map_or("", |name| name);

    if arguments.len() < 3 {
        println!("name\tparams\tworkers\tn\tunit\tmedian\tp99\tcpu\tallocs\tsamples");
    }
    for b in benches.iter().filter(|b| format!("{} {}", b.name, b.params).contains(wanted)) {
        match (b.kind, arguments.get(2)) {
            (Kind::Steady, None) => run_steadily(b),
            (Kind::Steady, Some(_)) => (),
            (Kind::Rounds, Some(workers)) if *workers == b.workers.to_string() => run_two_rounds(b),
            (Kind::Rounds, Some(_)) => (),
            (Kind::Rounds, None) => {
                let row = [format!("{} {}", b.name, b.params), b.workers.to_string()];
                let done = std::process::Command::new("/proc/self/exe").args(row).status();
                check(done.map_or(false, |status| status.success()), b.name);
            }
        }
    }
}
