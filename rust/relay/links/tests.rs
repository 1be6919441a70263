//! What becomes of a flag: by what is told, what is missed, and links that come and go.

use std::time::{Duration, Instant};

use super::*;
use crate::open::socket;
use crate::open::testnet::{FAR, NEAR, in_namespace, interface, ip, wait_until, with_cable};
use crate::sys::sockopt;

fn is_up(carrier: &Carrier) -> bool {
    carrier.load(Ordering::Relaxed)
}

fn flag(links: &Links, index: u32) -> Carrier {
    links.carrier(index).unwrap().unwrap()
}

#[test]
fn only_flags_that_somebody_holds_are_kept_and_followed() {
    let mut known = Known::default();
    let held = known.carrier(1);
    drop(known.carrier(2));
    assert!(!is_up(&held), "nobody has said that there is a carrier");
    known.take(Link { index: 1, carrier: true });
    known.take(Link { index: 3, carrier: true });
    assert!(is_up(&held));
    assert!(Arc::ptr_eq(&held, &known.carrier(1)));
    assert_eq!(known.unsure, [2].into());
    known.forget_unused();
    assert_eq!(known.carriers.keys().collect::<Vec<_>>(), [&1]);
    assert!(known.unsure.is_empty());
    known.doubt_all();
    assert_eq!(known.unsure, [1].into());
}

#[test]
fn what_cannot_be_watched_is_not_kept_back() {
    let mut known = Known::default();
    let held = known.carrier(1);
    known.give_up(&ErrorKind::TimedOut.into());
    assert!(is_up(&held));
    assert!(known.failure.unwrap().starts_with("the links cannot be watched any more (timed out)"));
}

#[test]
fn a_flag_follows_its_link_to_the_end() {
    with_cable(|| {
        let links = Links::new();
        let near = flag(&links, interface(NEAR).index);
        let loopback = flag(&links, interface("lo").index);
        let missing = flag(&links, 4711);
        assert!(is_up(&near) && is_up(&loopback) && !is_up(&missing));
        links.start().unwrap();
        ip(&format!("link set {FAR} down"));
        wait_until("down is followed", || !is_up(&near));
        ip(&format!("link set {FAR} up"));
        wait_until("up is followed", || is_up(&near));
        ip("link add bridge0 type bridge");
        ip(&format!("link set {NEAR} master bridge0"));
        ip(&format!("link set {NEAR} nomaster"));
        // Another interface later: by then the bridge has been heard of.
        flag(&links, interface("bridge0").index);
        assert!(is_up(&near), "leaving a bridge is no deletion");
        ip(&format!("link delete {NEAR}"));
        wait_until("deletion is followed", || !is_up(&near));
        assert!(is_up(&loopback));
        ip("link add again0 index 4711 type veth peer name again1");
        ip("link set again0 up");
        ip("link set again1 up");
        wait_until("an interface that comes is followed", || is_up(&missing));
        assert_eq!(links.failure(), None);
        links.stop();
    });
}

#[test]
fn what_was_told_before_the_start_is_not_missed() {
    with_cable(|| {
        let links = Links::new();
        let near = flag(&links, interface(NEAR).index);
        ip(&format!("link set {FAR} down"));
        assert!(is_up(&near), "there is no thread yet");
        links.start().unwrap();
        wait_until("it is read at the start", || !is_up(&near));
    });
}

#[test]
fn after_an_overrun_the_kernel_is_asked() {
    with_cable(|| {
        let watch = Watch::open().unwrap();
        let near = watch.carrier(interface(NEAR).index).unwrap().unwrap();
        assert!(is_up(&near));
        // The least that there is: one message and it is full.
        let fd = watch.socket.as_fd();
        sockopt::set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 1).unwrap();
        ip("link set lo alias one");
        ip(&format!("link set {NEAR} down"));
        assert!(socket::drops(fd).unwrap() > 0, "nothing was lost");
        watch.catch_up(&mut watch.known()).unwrap();
        assert!(!is_up(&near));
    });
}

#[test]
fn the_end_is_prompt_whoever_writes_to_the_wake_up() {
    in_namespace(|| {
        let links = Links::new();
        links.start().unwrap();
        let loopback = flag(&links, interface("lo").index);
        let wake = links.life().thread.as_ref().unwrap().wake.clone();
        wake.write(1).unwrap();
        ip("link set lo down");
        wait_until("the thread goes on", || !is_up(&loopback));
        let start = Instant::now();
        links.stop();
        links.stop();
        assert!(start.elapsed() < Duration::from_secs(1));
        links.carrier(interface("lo").index).unwrap();
        assert!(links.life().thread.is_none(), "what is stopped stays so");
    });
}
