use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

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

    fn note(&self) -> PathBuf {
        self.0.join("control.sock.flows")
    }

    fn look(&self, workers: usize, flows: [u32; 2]) -> Tables {
        self.look_in("tables", workers, flows)
    }

    fn look_in(&self, directory: &str, workers: usize, flows: [u32; 2]) -> Tables {
        let directory = self.0.join(directory);
        Tables::look(&Wanted { control_socket: &self.socket(), directory: Some(&directory), workers, flows })
    }

    fn files(&self) -> usize {
        self.files_in("tables")
    }

    fn files_in(&self, directory: &str) -> usize {
        fs::read_dir(self.0.join(directory)).map_or(0, Iterator::count)
    }

    /// The names in the place itself.
    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Leaves a table in the directory as a process does that is killed; the table.
fn leave(place: &Place, directory: &str, workers: usize, flows: [u32; 2]) -> Vec<PathBuf> {
    let mut tables = place.look_in(directory, workers, flows);
    let paths = (0..workers).map(|_| tables.map(BYTES).unwrap().path.unwrap()).collect();
    tables.settle();
    paths
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
    assert!(!place.note().exists());
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
    let note = place.note();
    let written = fs::read_to_string(&note).unwrap();
    let boot = written.replace(fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim(), "another");
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
    let place = Place::new("others");
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

#[test]
fn a_note_is_written_through_nobody_s_link() {
    let place = Place::new("links");
    let precious = place.0.join("precious");
    fs::write(&precious, "precious").unwrap();
    for link in ["control.sock.flows.new", "control.sock.flows"] {
        symlink(&precious, place.0.join(link)).unwrap();
        leave(&place, "tables", 1, FLOWS);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{link}");
        let metadata = fs::symlink_metadata(place.note()).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600, "{metadata:?}");
        assert_eq!(place.names(), ["control.sock.flows", "precious", "tables"].map(str::to_owned).into());
        fs::remove_file(place.note()).unwrap();
    }
}

#[test]
fn a_note_that_others_can_have_written_is_told_of_and_not_gone_by() {
    let place = Place::new("hostile");
    let [table] = leave(&place, "tables", 1, FLOWS).try_into().unwrap();
    let (note, elsewhere) = (place.note(), place.0.join("elsewhere"));
    let refuse = |why: &str| {
        let tables = place.look(1, FLOWS);
        let said = tables.unusable().unwrap_or_default().to_owned();
        assert!(said.contains("control.sock.flows") && said.contains(why) && said.ends_with("remove it"), "{said}");
        assert!(tables.obstacle_to_takeover().is_some(), "{why}");
        assert!(remove_stale(&place.socket()).unwrap().is_empty(), "{why}");
        assert!(table.exists() && fs::symlink_metadata(&note).is_ok(), "{why}");
    };
    mode(&note, 0o622);
    refuse("can be written by other users");
    mode(&note, 0o600);
    if effective_user() == 0 {
        chown(&note, Some(65_534), None).unwrap();
        refuse("belongs to another user");
        chown(&note, Some(0), None).unwrap();
    }
    fs::rename(&note, &elsewhere).unwrap();
    symlink(&elsewhere, &note).unwrap();
    refuse("is a symbolic link");
    fs::remove_file(&note).unwrap();
    fs::create_dir(&note).unwrap();
    refuse("is no ordinary file");
    fs::remove_dir(&note).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&note).status().unwrap();
    assert!(made.success());
    refuse("is no ordinary file");

    fs::remove_file(&note).unwrap();
    fs::rename(&elsewhere, &note).unwrap();
    assert_eq!(place.look(1, FLOWS).unusable(), None);
    assert_eq!(remove_stale(&place.socket()).unwrap(), [table, note]);
}

#[test]
fn nothing_is_removed_or_adopted_that_is_not_a_table_of_this_gateway_s() {
    let place = Place::new("names");
    let [table] = leave(&place, "tables", 1, FLOWS).try_into().unwrap();
    let written = fs::read_to_string(place.note()).unwrap();
    let precious = place.0.join("precious");
    fs::write(&precious, "precious").unwrap();
    mode(&precious, 0o600);
    mode(&place.0, 0o700);
    let name = table.file_name().unwrap().to_str().unwrap();
    let other = format!("flows-0123456789abcdef-{}", name.rsplit_once("-0-").unwrap().1);
    for named in ["precious".to_owned(), format!("{name}/../../precious"), other, format!("{name}x")] {
        let named = place.0.join(&named);
        fs::write(place.note(), written.replace(table.to_str().unwrap(), named.to_str().unwrap())).unwrap();
        let mut tables = place.look(1, FLOWS);
        let said = tables.unusable().unwrap_or_default().to_owned();
        assert!(said.contains(named.to_str().unwrap()) && said.ends_with("remove it"), "{said}");
        assert!(!tables.map(BYTES).unwrap().is_adopted);
        drop(tables);
        assert!(remove_stale(&place.socket()).unwrap().is_empty());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }
    // One by its name, where others can have put it.
    let open = place.0.join("open");
    fs::create_dir(&open).unwrap();
    mode(&open, 0o777);
    let named = open.join(name);
    fs::copy(&precious, &named).unwrap();
    fs::write(place.note(), written.replace(table.to_str().unwrap(), named.to_str().unwrap())).unwrap();
    assert!(matches!(place.look(1, FLOWS).map(BYTES), Err(TablesError::Refused { .. })));
    assert_eq!(remove_stale(&place.socket()).unwrap(), [place.note()]);
    assert_eq!(fs::read_to_string(&named).unwrap(), "precious");
}

#[test]
fn tables_are_found_by_whatever_path_leads_to_the_control_socket() {
    let place = Place::new("paths");
    let [table] = leave(&place, "tables", 1, FLOWS).try_into().unwrap();
    let link = place.0.join("link");
    symlink(&place.0, &link).unwrap();
    assert_eq!(remove_stale(&link.join("control.sock")).unwrap(), [table, place.note()]);
}

#[test]
fn whatever_changes_together_with_the_directory_leaves_no_table_behind() {
    let place = Place::new("moved");
    for (workers, flows) in [(2, FLOWS), (2, [1024, 1024]), (1, [1024, 1024]), (2, [4096, 2048])] {
        leave(&place, "before", workers, flows);
        leave(&place, "after", 1, FLOWS);
        assert_eq!((place.files_in("before"), place.files_in("after")), (0, 1), "{workers} {flows:?}");
        assert_eq!(remove_stale(&place.socket()).unwrap().len(), 2);
    }
    // The same tables are used where they are.
    let left = leave(&place, "before", 1, FLOWS);
    assert_eq!(leave(&place, "after", 1, FLOWS), left);
    // Of another boot.
    let written = fs::read_to_string(place.note()).unwrap();
    fs::write(place.note(), written.replace("\"boot\": \"", "\"boot\": \"x")).unwrap();
    leave(&place, "after", 1, FLOWS);
    assert_eq!((place.files_in("before"), place.files_in("after")), (0, 1));
}

#[test]
fn what_a_start_has_made_that_was_killed_is_removed_by_the_next() {
    let place = Place::new("killed");
    let kill = |directory: &str, workers| {
        let mut tables = place.look_in(directory, workers, FLOWS);
        tables.map(BYTES).unwrap();
        std::mem::forget(tables);
    };
    kill("first", 2);
    kill("second", 1);
    // One that is refused takes away its own, and leaves what says where the others' lie.
    place.look_in("third", 1, FLOWS).map(BYTES).unwrap();
    assert_eq!(["first", "second", "third"].map(|directory| place.files_in(directory)), [1, 1, 0]);
    leave(&place, "fourth", 1, FLOWS);
    assert_eq!(["first", "second", "third", "fourth"].map(|directory| place.files_in(directory)), [0, 0, 0, 1]);
    assert!(!place.names().contains("control.sock.flows.new"));

    kill("first", 2);
    kill("second", 3);
    assert_eq!(remove_stale(&place.socket()).unwrap().len(), 4, "three tables, and the note that has both directories");
    assert!(place.names().iter().all(|name| !name.contains("flows")), "{:?}", place.names());
}

#[test]
fn a_table_that_cannot_be_removed_yet_is_remembered() {
    let place = Place::new("remembered");
    let [left] = leave(&place, "before", 1, FLOWS).try_into().unwrap();
    let used = lock_once(&left).unwrap();
    leave(&place, "after", 1, [1024, 1024]);
    assert_eq!((place.files_in("before"), place.files_in("after")), (1, 1));
    drop(used);
    leave(&place, "after", 1, [1024, 1024]);
    assert_eq!((place.files_in("before"), place.files_in("after")), (0, 1));
}
