use std::collections::BTreeMap;
use std::vec;

use super::*;

const WORKERS: u8 = 3;

/// Receivers may still hold fragments under any of the last numbers.
#[test]
fn rfc6864_s5_3_1_a_worker_uses_all_its_identifications_before_one_comes_again_and_none_of_anothers() {
    let counters = Counters::default();
    let mut owners = BTreeMap::new();
    for id in 0..WORKERS {
        let secret = [1, 2, 3, id.into()];
        let config = WorkerConfig { flows_v4: 64, flows_v6: 64, ..WorkerConfig::new(WorkerId(id), WORKERS, secret) };
        let len = Worker::memory_bytes(&config);
        let mut memory = vec![0; len + 64];
        let skip = memory.as_ptr().align_offset(64);
        let memory = &mut memory[skip..skip + len];
        let mut worker = Worker::new(&config, memory, &counters, &[]).expect("the memory is large enough");
        let mut last = BTreeMap::new();
        // More than any lap, wherever it begins.
        for turn in 0..70_000_u32 {
            let number = worker.next_identification(WORKERS);
            assert_eq!(*owners.entry(number).or_insert(id), id, "{number}");
            if let Some(before) = last.insert(number, turn) {
                assert!(turn - before >= u32::from(u16::MAX / u16::from(WORKERS)), "{number} in {before} and {turn}");
            }
        }
    }
}
