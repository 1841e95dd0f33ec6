//! The core's data path, one burst of 32 frames at a time. Names state the workload:
//! `pipeline/WORKLOAD/SIZE/FAMILY/FLOWS`. Time is per frame; *L* is printed beside each size of table.
//! `baseline/...` is a straightforward implementation of the same job, with a hash map and allocation.
//!
//! Restoring the frames between bursts is not timed. The frames' bytes are in the first two caches, as
//! after a ring has just delivered them.

mod support;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use support::baseline::Baseline;
use support::gateway::{IMIX, SMALL};
use support::{Bench, Family, Workload, load_latency};

/// The sizes that `make bench` measures; `FLOWS_MAX=10000000` adds the largest.
const FLOWS: [(u32, &str); 5] =
    [(1, "1-flow"), (1_000, "1k-flows"), (100_000, "100k-flows"), (1_000_000, "1M-flows"), (10_000_000, "10M-flows")];

fn sizes() -> impl Iterator<Item = (u32, &'static str)> {
    let most = std::env::var("FLOWS_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    FLOWS.into_iter().filter(move |(flows, _)| *flows <= most)
}

fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    group.throughput(Throughput::Elements(1));
    group
}

fn pipeline(criterion: &mut Criterion) {
    for (flows, name) in sizes() {
        family::<[u8; 4]>(criterion, flows, name);
        family::<[u8; 16]>(criterion, flows, name);
    }
}

fn family<A: Family>(criterion: &mut Criterion, flows: u32, name: &str) {
    let mut group = group(criterion, "pipeline");
    let mut bench = Bench::<A>::new(flows);
    let latency = load_latency(bench.table_bytes);
    println!("{} {name}: {} MiB of tables, L = {latency:.0} ns", A::NAME, bench.table_bytes >> 20);
    let workloads =
        [(Workload::Hit, "hit"), (Workload::Reply, "reply"), (Workload::NewFlow, "new-flow"), (Workload::Miss, "miss")];
    for (size, payloads) in [("60B", SMALL), ("IMIX", IMIX)] {
        bench.mix(payloads);
        for (workload, label) in workloads {
            // The size of the payload matters only where the frame is moved.
            if size == "60B" || matches!(workload, Workload::Hit | Workload::Reply) {
                group.bench_function(format!("{label}/{size}/{}/{name}", A::NAME), |bencher| {
                    bencher.iter_custom(|frames| bench.run_frames(workload, frames));
                });
            }
        }
    }
    group.sample_size(10).measurement_time(Duration::from_millis(100)).warm_up_time(Duration::from_millis(1));
    group.bench_function(format!("expiry/{}/{name}", A::NAME), |bencher| {
        bencher.iter_custom(|flows| bench.run_expiry(flows));
    });
    group.finish();
}

fn baseline(criterion: &mut Criterion) {
    let mut group = group(criterion, "baseline");
    for (flows, name) in sizes() {
        let mut bench = Baseline::new(flows);
        for (is_reply, label) in [(false, "hit"), (true, "reply")] {
            group.bench_function(format!("{label}/60B/v4/{name}"), |bencher| {
                bencher.iter_custom(|frames| bench.run_frames(is_reply, frames));
            });
        }
    }
    group.finish();
}

fn selector(criterion: &mut Criterion) {
    use weirgate::hash::HashKey;
    use weirgate::maglev::{Member, TABLE_SIZE, fill};
    let key = HashKey::from_seed(1);
    let members: Vec<Member> = (0..1000_u32)
        .map(|number| {
            let mut address = [0; 16];
            address[12..].copy_from_slice(&number.to_be_bytes());
            Member::new(&key, address, 80, 1, TABLE_SIZE)
        })
        .collect();
    let mut table = vec![0; TABLE_SIZE as usize];
    criterion.bench_function("maglev/fill/65537-slots/1000-backends", |bencher| {
        bencher.iter(|| fill(&mut members.clone(), &mut table));
    });
}

criterion_group!(benches, pipeline, baseline, selector);
criterion_main!(benches);
