use super::*;

/// A directory of memory for one test, with a control socket's place in it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/dev/shm/weirgate-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn tables(&self) -> PathBuf {
        self.0.join("tables")
    }

    fn look(&self, workers: usize, flows: [u32; 2]) -> Tables {
        Tables::look(&Wanted { control_socket: &self.socket(), directory: Some(&self.tables()), workers, flows })
    }

    fn files(&self) -> usize {
        fs::read_dir(self.tables()).map_or(0, Iterator::count)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const BYTES: usize = 100_000;
const FLOWS: [u32; 2] = [1024, 2048];

#[test]
fn a_process_that_ends_in_whatever_way_leaves_its_tables_to_the_next() {
    let place = Place::new("next");
    let mut first = place.look(2, FLOWS);
    for worker in 0..2_u8 {
        let mut mapped = first.map(BYTES).unwrap();
        assert!(!mapped.is_adopted && mapped.memory.iter().all(|&byte| byte == 0));
        mapped.memory[BYTES - 1] = worker + 1;
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(mapped.path.unwrap()).unwrap().permissions().mode() & 0o777, 0o600);
    }
    first.settle();
    drop(first);

    let mut second = place.look(2, FLOWS);
    assert_eq!(second.unusable(), None);
    for worker in 0..2_u8 {
        let mapped = second.map(BYTES).unwrap();
        assert!(mapped.is_adopted);
        assert_eq!(mapped.memory[BYTES - 1], worker + 1);
    }
    // A start that is refused later leaves them as they are.
    drop(second);
    assert_eq!(place.files(), 2);
    let mut third = place.look(2, FLOWS);
    assert!(third.map(BYTES).unwrap().is_adopted && third.map(BYTES).unwrap().is_adopted);
    third.settle();
    third.remove();
    assert_eq!(place.files(), 0);
    assert!(!note_path(&place.socket()).exists());
}

#[test]
fn two_processes_never_have_one_table() {
    let place = Place::new("lock");
    let mut first = place.look(1, FLOWS);
    let held = first.map(BYTES).unwrap();
    first.settle();
    let mut second = place.look(1, FLOWS);
    assert!(matches!(second.map(BYTES), Err(TablesError::InUse(path)) if Some(&path) == held.path.as_ref()));
    assert!(remove_stale(&place.socket()).unwrap().is_empty(), "what is in use stays");
    drop(held);
    assert!(second.map(BYTES).unwrap().is_adopted);
    assert_eq!(remove_stale(&place.socket()).unwrap().len(), 2, "note and table");
    assert_eq!(place.files(), 0);
}

#[test]
fn other_workers_capacities_boots_and_notes_start_empty_and_say_so() {
    let place = Place::new("other");
    let mut first = place.look(1, FLOWS);
    first.map(BYTES).unwrap().memory[0] = 1;
    first.settle();
    let note = note_path(&place.socket());
    let written = fs::read_to_string(&note).unwrap();
    let boot = written.replace(&boot_id(), "another");
    for (workers, flows, text, reason) in [
        (2, FLOWS, written.clone(), "there were 1 workers and now are 2"),
        (1, [1024, 1024], written.clone(), "the capacity was 1024 (IPv4) and 2048 (IPv6)"),
        (1, FLOWS, boot, "booted"),
        (1, FLOWS, written.replace("\"version\": 1", "\"version\": 7"), "of version 7"),
        (1, FLOWS, "{".to_owned(), "cannot be understood"),
    ] {
        fs::write(&note, text).unwrap();
        let mut tables = place.look(workers, flows);
        assert!(tables.unusable().is_some_and(|said| said.contains(reason)), "{:?}", tables.unusable());
        let mapped = tables.map(BYTES).unwrap();
        assert!(!mapped.is_adopted && mapped.memory[0] == 0);
        drop(tables);
        assert_eq!(place.files(), 1, "a start that is refused leaves no more than there was");
    }
    let mut last = place.look(1, [1024, 1024]);
    last.map(BYTES).unwrap();
    last.settle();
    assert_eq!(place.files(), 1, "the useless table is gone");
}

#[test]
fn what_others_may_have_put_there_is_neither_used_nor_adopted() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::new("others");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(place.tables()).unwrap();
    mode(&place.tables(), 0o777);
    let refusal = place.look(1, FLOWS).map(BYTES).unwrap_err().to_string();
    assert!(refusal.contains("others may write there"), "{refusal}");
    assert_eq!(place.files(), 0);
    mode(&place.tables(), 0o700);

    let mut first = place.look(1, FLOWS);
    let path = first.map(BYTES).unwrap().path.unwrap();
    first.settle();
    mode(&path, 0o666);
    assert!(matches!(place.look(1, FLOWS).map(BYTES), Err(TablesError::Refused { .. })));
    mode(&path, 0o600);
    let elsewhere = place.0.join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(matches!(place.look(1, FLOWS).map(BYTES), Err(TablesError::Refused { .. })));
}

#[test]
fn a_directory_that_was_configured_and_does_not_work_is_refused() {
    let mut tables = Tables::look(&Wanted {
        control_socket: Path::new("/run/weirgate-nowhere.sock"),
        directory: Some(Path::new("/proc/nowhere")),
        workers: 1,
        flows: FLOWS,
    });
    let refusal = tables.map(BYTES).unwrap_err().to_string();
    assert!(refusal.contains("/proc/nowhere") && refusal.contains("flows.memory"), "{refusal}");
}
