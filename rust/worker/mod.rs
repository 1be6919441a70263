//! A worker process of the daemon: a relay with one engine and no privileges, which serves the
//! requests of control. The supervisor's broker opens its sockets. Its counters are in a page that
//! outlives the process. After a restart it receives its rules from control again.
//!
//! ```text
//! arguments, fds      arguments and descriptors        supervisor_channel, mailbox  supervisor
//! framing, channel    the byte stream with control     messages                     its messages
//! session             reads requests, sends answers    service                      executes them
//! status, log         events that control does not request
//! page                what control reads from the counter page
//! ```

mod arguments;
mod channel;
mod fds;
mod framing;
mod log;
mod mailbox;
mod messages;
mod page;
mod service;
mod session;
mod status;
mod supervisor_channel;

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Barrier};

use arguments::Arguments;
use channel::Channel;
use fds::{CHANNEL, FIRST_FOREIGN, OwnDescriptors};
use mailbox::Mailbox;
use service::Service;
use session::ControlSession;

use crate::broker::BrokerClient;
use crate::error::{Error, Result};
use crate::relay::{EngineRings, OffloadMode, Relay};
use crate::sandbox::{self, FileAccess, Role};
#[cfg(feature = "offload")]
use crate::sockets::netlink::group_users;
use crate::sockets::netlink::groups;
use crate::sys::memory::SharedWords;
#[cfg(feature = "offload")]
use crate::sys::per_cpu_array;
use crate::sys::process_title;
use crate::sys::ring::RingKind;

/// The exit code of a worker whose engine ended by itself (EX_SOFTWARE, sysexits.h).
const ENGINE_ENDED: i32 = 70;
/// The exit code of a worker that could not start (EX_OSERR).
const NOT_STARTED: i32 = 71;
/// The exit code of a worker with invalid arguments (EX_USAGE).
const INVALID_ARGUMENTS: i32 = 64;

/// Reads any bytes as a request of control, for fuzzing.
#[cfg(fuzzing)]
pub fn check_request(bytes: &[u8]) {
    use messages::requests::{ControlRequest, check, check_edit};

    let Ok(ControlRequest::Prepare { add, edit, shaping, .. }) = ControlRequest::parse(bytes)
    else {
        return;
    };
    for rule in add.iter().filter(|rule| check(rule).is_ok()) {
        let _ = rule.input.table_rule();
        let _ = rule.output_keys().count();
    }
    let _ = edit.iter().map(check_edit).filter(std::result::Result::is_ok).count();
    let _ = shaping.map(|shaping| shaping.check());
}

/// Runs a worker until its engine or its supervisor ends; returns the exit code. The process must
/// have one thread. It gives up its privileges before it reads anything.
///
/// An error is one line on standard error.
#[must_use]
pub fn run_worker(arguments: &str) -> i32 {
    let (code, text) = match Arguments::parse(arguments) {
        Err(text) => (INVALID_ARGUMENTS, text),
        Ok(arguments) => match start(&arguments) {
            Err(error) => (NOT_STARTED, error.to_string()),
            Ok(service) => (ENGINE_ENDED, service.run()),
        },
    };
    // Standard error may be closed.
    writeln!(io::stderr(), "worker: {text}").ok();
    code
}

/// Gives up all privileges and starts the engine, before any input is read.
fn start(arguments: &Arguments) -> Result<Service> {
    process_title::set(&format!("mcr: worker {}", arguments.number));
    let own =
        OwnDescriptors::take(arguments).map_err(|e| Error::os("taking over", "descriptors", e))?;
    let rings = EngineRings::create(1)?;
    sandbox::drop_privileges(arguments.user(), Some(arguments.supervisor))?;
    groups::keep_text();
    #[cfg(feature = "offload")]
    if arguments.offload() != OffloadMode::Off {
        let cpus = per_cpu_array::possible_cpus();
        cpus.map_err(|e| Error::os("counting", "the CPUs", e))?;
        group_users::keep_open();
    }
    sandbox::apply_landlock(&FileAccess::default())?;
    let OwnDescriptors { supervisor_channel, broker, page, channel, dev_null } = own;
    let relay = Arc::new(relay(arguments, broker, page)?);
    relay.set_rings(rings);
    relay.start()?;
    let mailbox = Arc::new(Mailbox::new()?);
    let gate = Arc::new(Barrier::new(2));
    supervisor_channel::start(supervisor_channel, relay.pulses(), mailbox.clone(), gate.clone())?;
    watch(relay.clone(), mailbox.clone())?;
    let occupied = fds::occupy_low_numbers(dev_null);
    occupied.map_err(|e| Error::os("filling", "the low descriptors", e))?;
    sandbox::apply_seccomp(Role::Worker {
        first_foreign_fd: FIRST_FOREIGN,
        channel_fd: CHANNEL,
        uses_maps: arguments.offload() != OffloadMode::Off,
        ring: relay.ring_kind().unwrap_or(RingKind::Uring),
    })?;
    gate.wait();
    let session = ControlSession::new(Channel::new(channel), mailbox);
    Ok(Service::new(relay, session, arguments.number))
}

/// Creates the relay on the supervisor's page, with sockets from its broker.
fn relay(arguments: &Arguments, broker: OwnedFd, page: OwnedFd) -> Result<Relay> {
    let page = SharedWords::open(page);
    let page = page.map_err(|e| Error::os("mapping", "the counters", e))?;
    let client = BrokerClient::new(broker)?;
    #[cfg(feature = "offload")]
    let opener = Box::new(client.kernel());
    let relay = Relay::on_page(arguments.settings(), Box::new(client), page)?;
    #[cfg(feature = "offload")]
    relay.set_kernel_opener(opener);
    Ok(relay)
}

/// Starts a thread that notifies the main thread when the engine ends by itself.
fn watch(relay: Arc<Relay>, mailbox: Arc<Mailbox>) -> Result<()> {
    supervisor_channel::spawn("mcr-watch", move || {
        if let Err(error) = relay.wait(None) {
            mailbox.post_end(error.to_string());
        }
    })
}
