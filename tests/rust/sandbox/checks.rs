//! What is seen of such a process from outside.

use std::env;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write, stderr, stdout};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{catch_unwind, resume_unwind};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::worker;

/// `nobody` of most hosts; nothing is asked of it.
pub(crate) const NOBODY: u32 = 65_534;
/// What every capability set of a process without any shows in `/proc/PID/status`.
const NONE: &str = "0000000000000000";

/// What landlock says where the kernel has all of it.
pub(crate) const ALL_HIDDEN: &str = "landlock hides files, TCP, sockets and processes";

const CHECKS: [(&str, fn()); 11] = [
    ("a_worker_relays_frames_under_the_filter", || relays("packet")),
    ("a_worker_relays_datagrams_under_the_filter", || relays("udp")),
    ("a_program_that_is_started_kills", || dies("program")),
    ("another_namespace_kills", || dies("namespace")),
    ("another_process_read_kills", || dies("memory")),
    ("another_ring_kills", || dies("ring")),
    ("without_root_no_right_is_left_either", keeps_its_user),
    ("files_and_ports_and_processes_are_hidden", hides),
    ("the_supervisor_takes_its_children_along", ends_with_its_supervisor),
    ("a_supervisor_keeps_what_it_is_told_to", keeps_what_it_needs),
    ("rights_are_not_given_up_by_halves", refuses),
];

pub(crate) fn run() {
    let arguments: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [role, rest @ ..] = arguments.as_slice()
        && let Some(role) = role.strip_prefix("role:")
    {
        return worker::play(role, rest);
    }
    for (name, check) in CHECKS {
        if arguments.is_empty() || arguments.iter().any(|part| name.contains(part.as_str())) {
            check();
            writeln!(stdout(), "{name} ... ok").unwrap();
        }
    }
}

/// A child that plays a role, and the line by line talk with it.
struct Part {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Part {
    fn start(role: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg(format!("role:{role}"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Self { child, to, from }
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line);
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// A line of `/proc/PID/status`.
    fn status(&self, key: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = text.lines().filter_map(|line| line.split_once(":\t"));
        lines.find(|(name, _)| *name == key).unwrap().1.to_owned()
    }

    /// Runs the command `ip` in the network namespace of the child.
    fn ip(&self, arguments: &str) {
        let namespace = format!("--net=/proc/{}/ns/net", self.child.id());
        let run = Command::new("nsenter")
            .args([&namespace, "ip"])
            .args(arguments.split(' '))
            .status()
            .unwrap();
        assert!(run.success(), "ip {arguments}");
    }
}

impl Drop for Part {
    /// A check that failed leaves nothing behind.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn may_be_root(what: &str) -> bool {
    may_be(geteuid().is_root(), &format!("{what} needs root"))
}

/// Whether a check can be made here; in CI it must.
fn may_be(can: bool, why_not: &str) -> bool {
    assert!(can || env::var_os("CI").is_none(), "CI must do this: {why_not}");
    if !can {
        writeln!(stderr(), "skipped: {why_not}").unwrap();
    }
    can
}

fn relays(ingress: &str) {
    if !may_be_root("a network namespace") {
        return;
    }
    let sibling = Part::start("sleeper", &[]);
    let mut worker = Part::start("worker", &[ingress, &sibling.child.id().to_string()]);
    worker.expect("confined");
    assert_bare(&worker);
    worker.tell("try");
    worker.expect("refused everything");
    worker.tell("relay");
    worker.expect("relayed");
    worker.ip("link set far0 down");
    worker.expect("waits");
    worker.ip("link set far0 up");
    worker.expect("goes on");
    worker.tell("stop");
    worker.expect("balanced");
    assert!(worker.end().success());
    assert_eq!(sibling.status("State").chars().next(), Some('S'), "nobody has signalled it");
}

fn keeps_its_user() {
    let mut part = Part::start("plain", &[]);
    part.expect("left");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(part.status(set), NONE, "{set}");
    }
    assert_eq!(part.status("NoNewPrivs"), "1");
}

fn hides() {
    let directory = env::temp_dir().join(format!("mcr-confine-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    for name in ["readable", "removable"] {
        fs::write(directory.join(name), "text").unwrap();
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o666)).unwrap();
    }
    let result = catch_unwind(|| {
        let mut part = Part::start("hidden", &[directory.to_str().unwrap()]);
        let hidden = part.hear();
        if may_be(hidden == ALL_HIDDEN, &hidden) {
            part.expect("done");
        }
        assert!(part.end().success());
    });
    fs::remove_dir_all(&directory).unwrap();
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

fn assert_bare(part: &Part) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(part.status(set), NONE, "{set}");
    }
    assert_eq!(part.status("NoNewPrivs"), "1");
    assert_eq!(part.status("Seccomp"), "2");
    let same = [NOBODY; 4].map(|id| id.to_string()).join("\t");
    assert_eq!((part.status("Uid"), part.status("Gid")), (same.clone(), same));
    assert_eq!(part.status("Groups").trim(), "");
    let threads = fs::read_dir(format!("/proc/{}/task", part.child.id())).unwrap();
    for thread in threads {
        let text = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(text.contains("Seccomp:\t2") && text.contains("NoNewPrivs:\t1"), "{text}");
    }
}

fn dies(how: &str) {
    let mut part = Part::start("culprit", &[how]);
    part.expect("confined");
    assert_eq!(part.end().signal(), Some(Signal::SIGSYS as i32));
}

fn refuses() {
    let mut part = Part::start("refusals", &[]);
    part.expect("done");
    assert!(part.end().success());
}

fn ends_with_its_supervisor() {
    let mut supervisor = Part::start("supervisor", &[]);
    supervisor.expect("confined");
    supervisor.child.kill().unwrap();
    supervisor.end();
    // The child has the pipe, too: only its end ends that.
    assert_eq!(supervisor.hear(), "");
}

fn keeps_what_it_needs() {
    if !may_be_root("capabilities") {
        return;
    }
    let mut part = Part::start("keeper", &[]);
    part.expect("shrunk");
    // CAP_KILL and CAP_NET_RAW, by their numbers (<linux/capability.h>).
    let kept = format!("{:016x}", 1_u64 << 5 | 1 << 13);
    for (set, holds) in [
        ("CapPrm", &*kept),
        ("CapEff", &kept),
        ("CapBnd", &kept),
        ("CapInh", NONE),
        ("CapAmb", NONE),
    ] {
        assert_eq!(part.status(set), holds, "{set}");
    }
    assert_eq!(part.status("NoNewPrivs"), "1");
    part.tell("open");
    part.expect("opened");
}
