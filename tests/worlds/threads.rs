//! How the workers' threads run: whether they sleep, and on which cores.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{echo, get, start_weirgate, status, transfer, world};
use weirgate_world::{Gateway, Options, World};

const IDLE: Duration = Duration::from_secs(1);

/// The directory in /proc of a worker's thread.
fn thread_of(gateway: &Gateway, worker: usize) -> PathBuf {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.id())).expect("it runs");
    let has_name = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == format!("weirgate-w{worker}"))
    };
    tasks.flatten().map(|task| task.path()).find(has_name).expect("the worker has a thread")
}

/// For how long a thread has wanted a core, whether or not others had it.
fn wanted_a_core(thread: &Path) -> Duration {
    let text = fs::read_to_string(thread.join("schedstat")).expect("the kernel counts it");
    let mut words = text.split_whitespace().map(|word| word.parse::<u64>().expect("nanoseconds"));
    Duration::from_nanos(words.by_ref().take(2).sum())
}

/// The share of an idle second for which the only worker wants a core.
fn idle_share(gateway: &Gateway) -> f64 {
    let thread = thread_of(gateway, 0);
    let (begin, before) = (Instant::now(), wanted_a_core(&thread));
    thread::sleep(IDLE);
    (wanted_a_core(&thread) - before).as_secs_f64() / begin.elapsed().as_secs_f64()
}

fn sleeps(world: &World) -> u64 {
    status(world)["counters"]["sleeps"].as_u64().expect("a counter")
}

#[test]
fn a_busy_worker_never_sleeps_and_an_adaptive_one_does() {
    let world = world(Options::default());
    let config = world.gateway_config();
    let busy = config.replace("poll = \"adaptive\"", "poll = \"busy\"");
    assert_ne!(busy, config);
    {
        let gateway = start_weirgate(&world, &busy);
        transfer(&world, "192.0.2.1:30080", 5);
        transfer(&world, "[2001:db8:1::1]:30080", 5);
        echo(&world, "0.0.0.0:0", "192.0.2.1:30007", (0..=1400).step_by(100));
        let share = idle_share(&gateway);
        assert!(share > 0.9, "it wanted a core for {share} of an idle second");
        assert_eq!(sleeps(&world), 0);
    }
    let gateway = start_weirgate(&world, &config);
    get(&world, "http://192.0.2.1:30080/");
    let share = idle_share(&gateway);
    assert!(share < 0.5, "it wanted a core for {share} of an idle second");
    assert!(sleeps(&world) > 0);
}

/// The cores that a process or thread may run on, as the kernel writes them.
fn allowed(process: &str) -> String {
    let text = fs::read_to_string(format!("{process}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.expect("the kernel reports it").trim().to_owned()
}

/// Whether a list of the kernel's, such as `0-3,8`, has this core.
fn has(list: &str, core: usize) -> bool {
    let number = |text: &str| text.parse::<usize>().expect("a core");
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        (number(first)..=number(last)).contains(&core)
    })
}

#[test]
fn each_worker_has_the_core_that_it_is_given_and_any_where_that_does_not_exist() {
    let world = world(Options { queues: 2, ..Options::default() });
    let own = allowed("/proc/self");
    let (mut bound, mut unbound) = (0, 0);
    // The last core that a configuration can name, which is the last that the kernel's sets have here as well.
    for first in [0, 1, 1023] {
        let config = world.gateway_config().replace("[gateway]\n", &format!("[gateway]\nfirst_core = {first}\n"));
        let gateway = start_weirgate(&world, &config);
        for worker in 0..2 {
            let core = first + worker;
            let reported = gateway
                .log()
                .lines()
                .any(|line| line.contains("not bound to its core") && line.contains(&format!("core={core} ")));
            let cores = allowed(&thread_of(&gateway, worker).display().to_string());
            if has(&own, core) {
                assert_eq!((cores, reported), (core.to_string(), false), "worker {worker} from core {first}");
                bound += 1;
            } else {
                assert_eq!((cores, reported), (own.clone(), true), "worker {worker} from core {first}");
                unbound += 1;
            }
        }
        assert_eq!(allowed(&format!("/proc/{}", gateway.id())), own, "the other threads are free");
        // Connections enough for both workers.
        for _ in 0..10 {
            assert!(get(&world, "http://192.0.2.1:30080/").starts_with('n'));
        }
    }
    assert!(bound >= 3 && unbound >= 2, "cores {own}: {bound} bound, {unbound} not");
}
