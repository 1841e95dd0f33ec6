//! The core's data path, one burst of 32 frames at a time. Names state the workload:
//! `pipeline/WORKLOAD/60B/v4/FLOWS`. Time is per frame; *L* is printed beside each size of table.
//!
//! Restoring the frames between bursts is not timed. The frames' bytes are near (in the first two
//! caches), as they are for a ring whose frames the processor has just been given.

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{Bench, Workload, load_latency};

/// The sizes that `make bench` measures; `FLOWS_MAX=10000000` adds the largest.
const FLOWS: [(u32, &str); 5] =
    [(1, "1-flow"), (1_000, "1k-flows"), (100_000, "100k-flows"), (1_000_000, "1M-flows"), (10_000_000, "10M-flows")];

fn pipeline(criterion: &mut Criterion) {
    let most = std::env::var("FLOWS_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let mut group = criterion.benchmark_group("pipeline");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(1));
    for (flows, name) in FLOWS.into_iter().filter(|(flows, _)| *flows <= most) {
        let mut bench = Bench::new(flows);
        let latency = load_latency(bench.table_bytes);
        println!("{name}: {} MiB of tables, L = {latency:.0} ns", bench.table_bytes >> 20);
        for (workload, label) in [(Workload::Hit, "hit"), (Workload::Reply, "reply"), (Workload::NewFlow, "new-flow")] {
            group.bench_function(format!("{label}/60B/v4/{name}"), |bencher| {
                bencher.iter_custom(|frames| bench.run_frames(workload, frames));
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

criterion_group!(benches, pipeline, selector);
criterion_main!(benches);
