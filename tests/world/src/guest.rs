//! Emulated machines: one of Debian's kernels on the host's files, with network cards whose drivers are real ones.
//!
//! ```text
//!  namespace of a machine of the world                    guest
//! ┌──────────────────────────────────────────┐  QEMU   ┌───────────────────────────┐
//! │ up0 ─── bridge br-up0 ─── tap-up0 ───────┼─────────┤ up0, of the card's driver │
//! └──────────────────────────────────────────┘         └───────────────────────────┘
//! ```
//!
//! The guest has the host's files under the same names, read-only; what it writes is its own and is gone with it.
//! There is no hardware virtualisation in this, so it is for what works, never for how fast.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::netns::{check, read_or_empty, script, wait_until};
use crate::{Host, Process, Waited, World, WorldError};

/// Where the scripts are that fetch what a guest needs, and that it begins with.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest");
/// The directory for the consoles of guests that failed.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guest");
/// How long a guest may take until it runs scripts; it takes a tenth of this on idle cores.
const BOOT: Duration = Duration::from_secs(150);
/// How much of the console a failure shows.
const CONSOLE_LINES: usize = 60;

/// One of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The newest of the backports.
    Newest,
    /// The oldest that the README promises.
    Oldest,
}

impl Kernel {
    fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
        }
    }
}

/// The model of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Intel's 82576, with eight queues.
    Igb,
    /// A paravirtual card with as many queue pairs at most, whose memory goes through the kernel's DMA interface, as
    /// zero-copy wants it.
    VirtioNet(u32),
}

/// A network card of a guest.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// Its kind.
    pub driver: Driver,
    /// The interface in the namespace that it is bridged with, whose name, addresses and link address it takes over.
    pub interface: &'a str,
}

/// The output of a script, and its exit status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// What it printed, errors too.
    pub output: String,
    /// Its exit status.
    pub status: i32,
}

/// A running guest. It ends when this is dropped, or with its world. If that is because of a panic, the end of its console
/// is printed, and all of it saved in `target/guest/`.
#[derive(Debug)]
pub struct Guest {
    name: String,
    emulator: Process,
    console: PathBuf,
    shared: PathBuf,
    scripts: u32,
}

impl World {
    /// Boots a kernel that replaces one of the world's machines and takes over its interfaces' addresses.
    ///
    /// # Errors
    /// Why emulator or kernel cannot be had, or the end of the console of a guest that does not boot in time.
    pub fn boot(&self, host: Host, kernel: Kernel, cards: &[Card<'_>]) -> Result<Guest, WorldError> {
        let cache = fetch()?;
        let io = |error| WorldError::io("cannot prepare the guest", &error);
        let directory = self.directory().join(format!("guest-{}", host.name()));
        let shared = directory.join("shared");
        fs::create_dir_all(&shared).map_err(io)?;
        let console = directory.join("console");
        let root = cache.join(kernel.name());

        let initrd = directory.join("initrd");
        check(Command::new("sh").current_dir(SCRIPTS).args([
            "-ec",
            r#"cp "$1" "$2"; echo init | busybox cpio -o -H newc 2>/dev/null >>"$2""#,
            "sh",
            &root.join("modules.cpio").display().to_string(),
            &initrd.display().to_string(),
        ]))?;

        let mut command = self.command(host, "qemu-system-x86_64");
        command.env("PATH", search(&cache, "PATH", &["usr/bin"]));
        command.env(
            "LD_LIBRARY_PATH",
            search(&cache, "LD_LIBRARY_PATH", &["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]),
        );
        command
            .arg("-L")
            .arg(cache.join("qemu/usr/share/qemu"))
            .arg("-L")
            .arg(cache.join("qemu/usr/share/seabios"))
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-machine", "q35"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3G"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(root.join("vmlinuz"))
            .arg("-initrd")
            .arg(&initrd)
            .args(["-append", "console=ttyS0 loglevel=5 panic=-1 mitigations=off"]);
        for (tag, path, access) in [
            ("host", Path::new("/"), ",readonly=on"),
            ("modules", &root.join("lib/modules"), ",readonly=on"),
            ("shared", &shared, ""),
        ] {
            let options = format!("local,id={tag},path={},security_model=none,multidevs=remap{access}", path.display());
            command.args(["-fsdev", &options]).arg("-device").arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        }
        let mut setup = String::from("set -e\n");
        for card in cards {
            let (netdev, device, addresses) = self.connect(host, card)?;
            command.args(["-netdev", &netdev, "-device", &device]);
            setup += &addresses;
        }
        let errors = fs::File::create(directory.join("emulator.log")).map_err(io)?;
        command.stdout(errors.try_clone().map_err(io)?).stderr(errors);
        let emulator = Process::start(&mut command).map_err(io)?;

        let name = format!("{}-{}", self.namespace(host), kernel.name());
        let mut guest = Guest { name, emulator, console, shared, scripts: 0 };
        let mut has_ended = false;
        let is_up = wait_until(BOOT, || {
            has_ended = guest.emulator.wait(Duration::ZERO) != Waited::Running;
            has_ended || guest.shared.join("ready").exists()
        });
        if has_ended || !is_up {
            let emulator = read_or_empty(&directory.join("emulator.log"));
            return Err(WorldError::Guest(format!("the guest did not boot: {emulator}\n{}", guest.console())));
        }
        match guest.run(&setup, Duration::from_secs(60))? {
            Ran { status: 0, .. } => Ok(guest),
            Ran { output, .. } => {
                Err(WorldError::Guest(format!("the guest's cards are not usable: {output}\n{}", guest.console())))
            }
        }
    }

    /// Makes the host's end of a card; returns QEMU's words for it, and the script that sets it up in the guest.
    fn connect(&self, host: Host, card: &Card<'_>) -> Result<(String, String, String), WorldError> {
        let name = card.interface;
        let namespace = self.namespace(host);
        let (queues, module) = match card.driver {
            Driver::Igb => (1, "igb"),
            Driver::VirtioNet(queues) => (queues, "virtio_net"),
        };
        let multi_queue = if queues > 1 { "multi_queue vnet_hdr" } else { "vnet_hdr" };
        let described = script(
            &namespace,
            &format!("cat /sys/class/net/{name}/address; ip -oneline address show dev {name} scope global"),
        )?;
        let mut lines = described.lines();
        let mac = lines.next().unwrap_or_default();
        let addresses = lines.filter_map(|line| line.split_whitespace().nth(3));
        script(
            &namespace,
            &format!(
                "sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1
                 ip address flush dev {name}
                 ip link add br-{name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
                 sysctl -qw net.ipv6.conf.br-{name}.disable_ipv6=1
                 ip tuntap add dev tap-{name} mode tap {multi_queue}
                 sysctl -qw net.ipv6.conf.tap-{name}.disable_ipv6=1
                 ip link set {name} address 02:00:00:00:00:01
                 for port in {name} tap-{name}; do ip link set $port master br-{name} up; done
                 ip link set br-{name} up"
            ),
        )?;
        let netdev = format!("tap,id={name},ifname=tap-{name},script=no,downscript=no,vhost=off,queues={queues}");
        let device = match card.driver {
            Driver::Igb => format!("igb,netdev={name},mac={mac},romfile="),
            Driver::VirtioNet(queues) => format!(
                "virtio-net-pci,netdev={name},mac={mac},romfile=,mq=on,vectors={},iommu_platform=on,disable-legacy=on",
                queues * 2 + 2
            ),
        };
        let mut setup = format!(
            "modprobe {module}
             for try in $(seq 100); do
               was=$(grep -lix {mac} /sys/class/net/*/address | cut -d/ -f5)
               [ -z \"$was\" ] || break
               sleep 0.1
             done
             sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.accept_ra=0
             ip link set $was down
             ip link set $was name {name}
             ip link set {name} up\n"
        );
        for address in addresses {
            setup += &format!("ip address add {address} dev {name}\n");
        }
        Ok((netdev, device, setup))
    }
}

impl Guest {
    /// Runs a shell script in the guest to its end.
    ///
    /// # Errors
    /// [`WorldError::Guest`] with the end of the console where it has not ended in time, or the guest has.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Ran, WorldError> {
        let number = self.scripts;
        self.scripts += 1;
        let file = |kind: &str| self.shared.join(format!("{number}.{kind}"));
        let io = |error| WorldError::io("cannot hand the guest a script", &error);
        // It appears whole.
        fs::write(file("text"), script).and_then(|()| fs::rename(file("text"), file("script"))).map_err(io)?;
        let deadline = Instant::now() + limit;
        let status = file("status");
        while !status.exists() {
            let has_ended = self.emulator.wait(Duration::ZERO) != Waited::Running;
            if has_ended || Instant::now() > deadline {
                let how = if has_ended { "the guest ended in" } else { "the guest took too long for" };
                let so_far = read_or_empty(&file("output"));
                return Err(WorldError::Guest(format!("{how}: {script}\n{so_far}\n{}", self.console())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = read_or_empty(&status).trim().parse().unwrap_or(-1);
        Ok(Ran { output: read_or_empty(&file("output")), status })
    }

    /// Runs a shell script in the guest, within a minute, and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it printed and the end of the console.
    pub fn shell(&mut self, script: &str) -> String {
        let ran = self.run(script, Duration::from_secs(60)).unwrap_or_else(|error| panic!("{error}"));
        assert!(ran.status == 0, "in the guest: {script}\nstatus {}\n{}\n{}", ran.status, ran.output, self.console());
        ran.output
    }

    /// A folder that the guest sees as `/run/shared`.
    #[must_use]
    pub fn shared(&self) -> &Path {
        &self.shared
    }

    /// The end of what the guest's console has shown.
    #[must_use]
    pub fn console(&self) -> String {
        let text = read_or_empty(&self.console);
        let lines: Vec<_> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        format!("the end of the guest's console:\n{end}")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = Path::new(KEPT).join(&self.name).with_extension("console");
            let copied = fs::create_dir_all(KEPT).and_then(|()| fs::copy(&self.console, &kept));
            eprintln!("{}\n{}: {copied:?}", self.console(), kept.display());
        }
    }
}

/// Emulator and kernels, in the folder that this returns.
fn fetch() -> Result<PathBuf, WorldError> {
    let output = Command::new(Path::new(SCRIPTS).join("fetch"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| WorldError::io("cannot fetch what a guest needs", &error))?;
    let reported = String::from_utf8_lossy(&output.stdout);
    let cache = reported.lines().find_map(|line| line.strip_prefix("cache "));
    match cache {
        Some(cache) if output.status.success() => Ok(cache.into()),
        _ => Err(WorldError::Guest("an emulator or a kernel cannot be had; why stands above".into())),
    }
}

/// A list of folders to look in: those of the emulator that was fetched before those of the host.
fn search(cache: &Path, variable: &str, folders: &[&str]) -> String {
    let mut all: Vec<_> = folders.iter().map(|folder| cache.join("qemu").join(folder).display().to_string()).collect();
    all.extend(std::env::var(variable).ok().filter(|list| !list.is_empty()));
    all.join(":")
}
