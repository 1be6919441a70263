//! A worker process of the daemon: one relay with one engine and no rights, which does what control
//! asks for. Sockets are opened by the supervisor's broker, counters lie in a page that outlives
//! the process, and the rules come from control again when it has died.
//!
//! ```text
//! arguments, fds      what it is started with          supervisor, mailbox  supervisor and threads
//! framing, channel    bytes from and to control        messages             what they say
//! session             what is read and answered next   service              request by request
//! status, log         what nobody asked for
//! page                what is read without asking
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

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Barrier};

use nix::sys::prctl;

use arguments::Arguments;
use channel::Channel;
use fds::{CHANNEL, FIRST_FOREIGN, OwnDescriptors};
use mailbox::Mailbox;
use service::Service;
use session::ControlSession;

use crate::broker::BrokerClient;
use crate::error::{Error, Result};
use crate::relay::{EngineRings, Relay};
use crate::sandbox::{self, FileAccess, Role};
use crate::sys::memory::SharedWords;

/// The exit code of a worker whose engine ended by itself (EX_SOFTWARE, sysexits.h).
const ENGINE_ENDED: i32 = 70;
/// The exit code of one that could not start (EX_OSERR).
const NOT_STARTED: i32 = 71;
/// The exit code of one whose arguments make no sense (EX_USAGE).
const WRONG_ARGUMENTS: i32 = 64;

/// Runs a worker until its engine or its supervisor ends; says the exit code. The process has one
/// thread, and the rights that it gives up before it reads anything.
///
/// What goes wrong is said in one line on standard error.
#[must_use]
pub fn run_worker(arguments: &str) -> i32 {
    let (code, text) = match Arguments::parse(arguments) {
        Err(text) => (WRONG_ARGUMENTS, text),
        Ok(arguments) => match start(&arguments) {
            Err(error) => (NOT_STARTED, error.to_string()),
            Ok(service) => (ENGINE_ENDED, service.run()),
        },
    };
    // Nobody may read it.
    writeln!(io::stderr(), "worker: {text}").ok();
    code
}

/// Gives up all rights and starts the engine; when this returns nothing foreign was read yet.
fn start(arguments: &Arguments) -> Result<Service> {
    name_process(arguments.number);
    let own =
        OwnDescriptors::take(arguments).map_err(|e| Error::os("taking over", "descriptors", e))?;
    let rings = EngineRings::create(1)?;
    sandbox::drop_privileges(arguments.user(), Some(arguments.supervisor))?;
    sandbox::apply_landlock(&FileAccess::default())?;
    let OwnDescriptors { supervisor_channel, broker, page, channel, nothing } = own;
    let relay = Arc::new(relay(arguments, broker, page)?);
    relay.set_rings(rings);
    relay.start()?;
    let mailbox = Arc::new(Mailbox::new()?);
    let gate = Arc::new(Barrier::new(2));
    supervisor_channel::start(supervisor_channel, mailbox.clone(), gate.clone())?;
    watch(relay.clone(), mailbox.clone())?;
    let filled = fds::occupy_low_numbers(nothing);
    filled.map_err(|e| Error::os("filling", "the low descriptors", e))?;
    sandbox::apply_seccomp(Role::Worker { first_foreign_fd: FIRST_FOREIGN, channel_fd: CHANNEL })?;
    gate.wait();
    let session = ControlSession::new(Channel::new(channel), mailbox);
    Ok(Service::new(relay, session, arguments.number))
}

/// What ps(1) and top(1) show.
fn name_process(number: u16) {
    if let Ok(name) = CString::new(format!("mcr-worker-{number}")) {
        // It is only a name.
        prctl::set_name(&name).ok();
    }
}

/// The relay, in the supervisor's page and with the sockets that its broker opens.
fn relay(arguments: &Arguments, broker: OwnedFd, page: OwnedFd) -> Result<Relay> {
    let page = SharedWords::open(page);
    let page = page.map_err(|e| Error::os("mapping", "the counters", e))?;
    let client = BrokerClient::new(broker)?;
    Relay::on_page(arguments.settings(), Box::new(client), page)
}

/// Lets the main thread know when the engine ends by itself.
fn watch(relay: Arc<Relay>, mailbox: Arc<Mailbox>) -> Result<()> {
    supervisor_channel::spawn("mcr-watch", move || {
        if let Err(error) = relay.wait(None) {
            mailbox.post_end(error.to_string());
        }
    })
}
