//! Memory for flow tables: outside the allocator, locked and on huge pages where possible, in a
//! file that outlives the process or, failing that, in the process alone.

use std::fs::{self, File};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::{fmt, ptr};

/// The size of a transparent huge page on the machines in question.
const HUGE_PAGE: usize = 2 << 20;
/// `MADV_POPULATE_WRITE` and `MADV_COLLAPSE` of linux/mman.h, since Linux 5.14 and 6.1.
const MADV_POPULATE_WRITE: i32 = 23;
const MADV_COLLAPSE: i32 = 25;
/// `TMPFS_MAGIC`, `RAMFS_MAGIC` and `HUGETLBFS_MAGIC` of linux/magic.h.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
const HUGETLBFS: i64 = 0x9584_58f6;

/// What kind of pages memory lies on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// Huge pages of this size, reserved by the administrator (hugetlbfs).
    Reserved(usize),
    /// Most of it on transparent huge pages.
    Transparent,
    /// The machine's ordinary pages.
    Small,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(bytes) => write!(f, "reserved huge pages of {} KiB", bytes >> 10),
            Self::Transparent => f.write_str("transparent huge pages"),
            Self::Small => f.write_str("small pages"),
        }
    }
}

/// Memory that belongs to one owner. Aligned to a huge page where it is as large as one, and to a page
/// otherwise.
#[derive(Debug)]
pub struct Memory {
    mapped: NonNull<u8>,
    mapped_bytes: usize,
    offset: usize,
    bytes: usize,
    pages: Pages,
    is_locked: bool,
    /// Holds the lock on the file for as long as the mapping lives.
    _file: Option<File>,
}

// SAFETY: the mapping is used by this value only, and every access goes through its borrow.
unsafe impl Send for Memory {}
// SAFETY: as above; shared borrows only read.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `bytes` of zeroed memory that ends with the process, touches every page of it and tries to
    /// lock it.
    ///
    /// # Errors
    /// The system's, where there is not enough memory.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let mut memory = Self::reserve(bytes, if bytes >= HUGE_PAGE { HUGE_PAGE } else { 1 })?;
        memory.map(None)?;
        memory.settle();
        Ok(memory)
    }

    /// Maps the first `bytes` of `file`, after allocating all of them in the file system, touches
    /// every page and tries to lock it. The file's content stays; everything after it is zero.
    ///
    /// The file must be locked (flock(2)) against other processes, and `file` holds that lock: only one
    /// process at a time maps a table. A file that others could shorten would end this process with
    /// SIGBUS, so make it with mode 0600.
    ///
    /// # Errors
    /// The system's, such as `ENOSPC` where the file system or the reserved huge pages are too small.
    pub fn of_file(file: File, bytes: usize) -> io::Result<Self> {
        let system = FileSystem::of(&file)?;
        let unit = if let FileSystem::Huge(page) = system { page } else { HUGE_PAGE };
        let whole = match system {
            FileSystem::Huge(page) => bytes.next_multiple_of(page),
            _ => bytes,
        };
        // A page without storage behind it would end the process at the first touch.
        allocate(&file, whole)?;
        let mut memory = Self::reserve(whole, if whole >= unit { unit } else { 1 })?;
        memory.map(Some(&file))?;
        memory.bytes = bytes;
        if let FileSystem::Huge(page) = system {
            memory.pages = Pages::Reserved(page);
        }
        memory._file = Some(file);
        memory.settle();
        Ok(memory)
    }

    /// Reserves addresses for `bytes`, beginning at a multiple of `align`.
    fn reserve(bytes: usize, align: usize) -> io::Result<Self> {
        let bytes = bytes.max(1);
        let mapped_bytes = bytes + if align > 1 { align } else { 0 };
        // SAFETY: a new private mapping at a place of the kernel's choice touches nothing of ours.
        let mapped = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped_bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(mapped) = NonNull::new(mapped.cast::<u8>()) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let offset = mapped.align_offset(align);
        Ok(Self { mapped, mapped_bytes, offset, bytes, pages: Pages::Small, is_locked: false, _file: None })
    }

    /// Puts memory, or a file, behind the addresses.
    fn map(&mut self, file: Option<&File>) -> io::Result<()> {
        let (kind, descriptor) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: the range lies within addresses that `reserve` has taken and nobody uses yet.
        let mapped = unsafe {
            libc::mmap(
                self.mapped.as_ptr().add(self.offset).cast(),
                self.bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                kind | libc::MAP_FIXED,
                descriptor,
                0,
            )
        };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Populates every page, on huge pages where the kernel has any, and locks them.
    fn settle(&mut self) {
        let is_reserved = matches!(self.pages, Pages::Reserved(_));
        if !is_reserved && self.bytes >= HUGE_PAGE {
            self.advise(libc::MADV_HUGEPAGE);
        }
        if !self.advise(MADV_POPULATE_WRITE) {
            self.touch();
        }
        // Shared memory gets huge pages by itself only where shmem_enabled says so; asking for them
        // outright is allowed unless it says `deny` (Documentation/admin-guide/mm/transhuge.rst).
        if !is_reserved && self.bytes >= HUGE_PAGE && self.huge_bytes() < self.bytes / 2 {
            self.advise(MADV_COLLAPSE);
        }
        if !is_reserved && self.huge_bytes() >= self.bytes.div_ceil(2) {
            self.pages = Pages::Transparent;
        }
        // SAFETY: the range is part of our mapping.
        self.is_locked = unsafe { libc::mlock(self.as_ptr().cast(), self.bytes) } == 0;
    }

    fn advise(&mut self, advice: i32) -> bool {
        // SAFETY: the range is part of our mapping, and none of the advices in use changes content.
        unsafe { libc::madvise(self.as_mut_ptr().cast(), self.bytes, advice) == 0 }
    }

    /// Populates every page by reading and writing a byte of it.
    fn touch(&mut self) {
        for at in (0..self.bytes).step_by(4096) {
            let byte = &raw mut self[at];
            // SAFETY: `byte` points into our mapping, which is borrowed exclusively; volatile, so that the
            // write is not taken for one without effect.
            unsafe { byte.write_volatile(byte.read()) };
        }
    }

    /// How many bytes lie on transparent huge pages.
    fn huge_bytes(&self) -> usize {
        let start = self.as_ptr() as usize;
        fs::read_to_string("/proc/self/smaps").map_or(0, |smaps| huge_bytes(&smaps, start))
    }

    /// What kind of pages the memory lies on.
    #[must_use]
    pub const fn pages(&self) -> Pages {
        self.pages
    }

    /// Whether the memory can never be swapped out.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.is_locked
    }
}

/// The bytes on transparent huge pages of the mapping that begins at `start`, from the text of
/// /proc/PID/smaps.
fn huge_bytes(smaps: &str, start: usize) -> usize {
    let head = format!("{start:x}-");
    let mapping = smaps.lines().skip_while(|line| !line.starts_with(&head)).skip(1);
    // The next mapping's first line begins with an address, and has no colon after its first word.
    mapping
        .map_while(|line| line.split_once(char::is_whitespace).filter(|(name, _)| name.ends_with(':')))
        .filter(|(name, _)| ["AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:"].contains(name))
        .filter_map(|(_, value)| value.trim().strip_suffix(" kB")?.parse::<usize>().ok())
        .sum::<usize>()
        << 10
}

/// What a file lies on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// Memory on reserved huge pages of this many bytes.
    Huge(usize),
    /// Memory.
    Memory,
    /// Anything else, to which the kernel writes changed pages.
    Other,
}

impl FileSystem {
    /// What this file, or directory, lies on.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: all-zero is a valid statfs, which the kernel then fills.
        let mut system: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and `system` is a statfs of ours.
        if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut system) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(match system.f_type as i64 {
            HUGETLBFS => Self::Huge(usize::try_from(system.f_bsize).unwrap_or(HUGE_PAGE).max(1)),
            TMPFS | RAMFS => Self::Memory,
            _ => Self::Other,
        })
    }
}

/// Allocates the first `bytes` in the file system.
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    loop {
        // SAFETY: no pointers are passed; the descriptor is open.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `offset + bytes` is at most `mapped_bytes`, the mapping lives as long as `self` and is
        // initialised by the kernel, writing takes an exclusive borrow, and a file behind it is locked
        // against other processes.
        unsafe { std::slice::from_raw_parts(self.mapped.as_ptr().add(self.offset), self.bytes) }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.mapped.as_ptr().add(self.offset), self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no borrow of it outlives `self`.
        unsafe { libc::munmap(self.mapped.as_ptr().cast(), self.mapped_bytes) };
    }
}

/// The user whose files this process may write.
#[must_use]
pub fn effective_user() -> u32 {
    // SAFETY: it only returns a number, and never fails.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    #[test]
    fn memory_is_zeroed_aligned_and_as_long_as_asked() {
        for bytes in [1, 4096, HUGE_PAGE + 64] {
            let mut memory = Memory::new(bytes).unwrap();
            assert_eq!(memory.len(), bytes);
            assert_eq!(memory.as_ptr().align_offset(64), 0);
            assert!(memory.iter().all(|&byte| byte == 0));
            memory[bytes - 1] = 1;
            assert_eq!(memory[bytes - 1], 1);
        }
    }

    fn open(path: &std::path::Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).unwrap()
    }

    #[test]
    fn what_was_written_into_a_file_s_memory_is_there_for_the_next_owner() {
        let path = std::path::PathBuf::from(format!("/dev/shm/weirgate-memory-{}", std::process::id()));
        let bytes = 2 * HUGE_PAGE + 64;
        for round in 0..3_u8 {
            let mut memory = Memory::of_file(open(&path), bytes).unwrap();
            assert_eq!((memory.len(), memory.as_ptr().align_offset(HUGE_PAGE)), (bytes, 0));
            assert_eq!([memory[0], memory[HUGE_PAGE], memory[bytes - 1]], [round; 3]);
            for at in [0, HUGE_PAGE, bytes - 1] {
                memory[at] += 1;
            }
            assert!(!matches!(memory.pages(), Pages::Reserved(_)), "{path:?} is no hugetlbfs");
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_system_without_room_is_an_error_and_not_a_signal() {
        let path = std::path::PathBuf::from(format!("/dev/shm/weirgate-room-{}", std::process::id()));
        // Sparse, as an interrupted start would leave it: larger than all memory there is.
        let file = open(&path);
        file.set_len(1 << 46).unwrap();
        let error = Memory::of_file(file, 1 << 46).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        fs::remove_file(path).unwrap();
    }

    /// Lets the kernel make a few huge pages beyond the reserved ones while this lives. For root.
    struct Surplus(String);

    impl Surplus {
        const SETTING: &str = "/proc/sys/vm/nr_overcommit_hugepages";

        fn allow(pages: usize) -> Self {
            let before = fs::read_to_string(Self::SETTING).unwrap();
            let now = before.trim().parse::<usize>().unwrap() + pages;
            fs::write(Self::SETTING, now.to_string()).unwrap();
            Self(before)
        }
    }

    impl Drop for Surplus {
        fn drop(&mut self) {
            let _ = fs::write(Self::SETTING, &self.0);
        }
    }

    #[test]
    fn a_hugetlbfs_gives_reserved_pages_or_a_refusal_and_never_a_signal() {
        let file = || {
            // SAFETY: the name ends with a zero, and the descriptor is new and nobody else's.
            unsafe {
                let fd = libc::memfd_create(c"weirgate-test".as_ptr(), libc::MFD_HUGETLB | libc::MFD_HUGE_2MB);
                assert!(fd >= 0, "{}", io::Error::last_os_error());
                <File as std::os::fd::FromRawFd>::from_raw_fd(fd)
            }
        };
        let _surplus = Surplus::allow(4);
        let bytes = HUGE_PAGE + 64;
        let mut memory = Memory::of_file(file(), bytes).unwrap();
        assert_eq!((memory.pages(), memory.len()), (Pages::Reserved(HUGE_PAGE), bytes));
        assert_eq!(memory.as_ptr().align_offset(HUGE_PAGE), 0);
        memory[bytes - 1] = 1;
        assert_eq!(memory.pages().to_string(), "reserved huge pages of 2048 KiB");
        // As many as no machine has.
        assert!(Memory::of_file(file(), 1 << 45).is_err());
    }

    #[test]
    fn huge_pages_are_counted_for_the_mapping_alone() {
        let smaps = "\
7f0000000000-7f0000400000 rw-s 00000000 00:19 5  /dev/shm/one
Size:               4096 kB
ShmemPmdMapped:     2048 kB
FilePmdMapped:         0 kB
VmFlags: rd wr sh
7f0000400000-7f0000800000 rw-p 00000000 00:00 0
AnonHugePages:      4096 kB
";
        assert_eq!(huge_bytes(smaps, 0x7f00_0000_0000), 2 << 20);
        assert_eq!(huge_bytes(smaps, 0x7f00_0040_0000), 4 << 20);
        assert_eq!(huge_bytes(smaps, 0x7f00_0080_0000), 0);
    }
}
