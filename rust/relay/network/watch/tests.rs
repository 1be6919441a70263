//! The link table and carrier flags after notifications, overruns, and links that are added and
//! removed.

use super::*;
use crate::addr::Addr;
use crate::sockets::netlink::link::Link;
use crate::sockets::socket;
use crate::sockets::testnet::{FAR, NEAR, interface, ip, wait_until, with_cable};
use crate::sys::sockopt;

fn is_up(carrier: &Carrier) -> bool {
    carrier.load(Ordering::Relaxed)
}

fn index_of(watch: &Watch, name: &str) -> Option<u32> {
    watch.now().unwrap().find(name).map(|link| link.index)
}

#[test]
fn the_table_is_that_of_the_kernel() {
    with_cable(|| {
        let watch = Watch::open().unwrap();
        let links = watch.latest();
        let near = links.find(NEAR).unwrap();
        let expected = Link { carrier: true, mtu: 1500, up: true, ..near.clone() };
        assert_eq!((near, near.index), (&expected, interface(NEAR).index));
        assert!(links.is_local(Addr::v4([10, 9, 0, 1])) && links.has_family(near.index, true));
        assert!(links.find("lo").is_some() && links.find("nowhere0").is_none());
        watch.take_changes();
        ip(&format!("address replace 10.9.7.1/24 dev {NEAR}"));
        ip(&format!("link set {NEAR} mtu 1400"));
        let links = watch.now().unwrap();
        assert!(
            watch.has_changes() && watch.take_changes().touched.contains(&interface(NEAR).index)
        );
        assert!(links.is_local(Addr::v4([10, 9, 7, 1])));
        assert_eq!(links.find(NEAR).unwrap().mtu, 1400);
        assert!(!watch.has_changes());
    });
}

#[test]
fn a_tentative_address_is_not_local() {
    with_cable(|| {
        let watch = Watch::open().unwrap();
        let address = "2001:db8::77".parse::<std::net::IpAddr>().unwrap().into();
        // Without carrier, duplicate address detection does not begin.
        ip(&format!("link set {FAR} down"));
        ip(&format!("address add 2001:db8::77/64 dev {NEAR}"));
        assert!(!watch.now().unwrap().is_local(address));
        ip(&format!("address del 2001:db8::77/64 dev {NEAR}"));
        ip(&format!("address add 2001:db8::77/64 dev {NEAR} nodad"));
        wait_until("it is usable", || watch.now().unwrap().is_local(address));
    });
}

#[test]
fn a_flag_follows_its_link_to_the_end() {
    with_cable(|| {
        let watch = Watch::open().unwrap();
        let near = watch.carrier(interface(NEAR).index);
        let loopback = watch.carrier(interface("lo").index);
        let missing = watch.carrier(4711);
        assert!(is_up(&near) && is_up(&loopback) && !is_up(&missing));
        ip(&format!("link set {FAR} down"));
        wait_until("down is followed", || watch.follow() && !is_up(&near));
        ip(&format!("link set {FAR} up"));
        wait_until("up is followed", || watch.follow() && is_up(&near));
        ip("link add bridge0 type bridge");
        ip(&format!("link set {NEAR} master bridge0"));
        ip(&format!("link set {NEAR} nomaster"));
        assert!(watch.follow() && is_up(&near), "leaving a bridge is no deletion");
        let index = interface(NEAR).index;
        ip(&format!("link delete {NEAR}"));
        assert!(watch.follow() && !is_up(&near) && is_up(&loopback));
        assert_eq!(watch.take_changes().gone.into_iter().collect::<Vec<_>>(), [index - 1, index]);
        ip("link add again0 index 4711 type veth peer name again1");
        ip("link set again0 up");
        ip("link set again1 up");
        wait_until("it comes", || watch.follow() && is_up(&missing));
        assert_eq!(watch.failure(), None);
    });
}

#[test]
fn after_an_overrun_everything_is_read_again() {
    with_cable(|| {
        let watch = Watch::open().unwrap();
        let near = watch.carrier(interface(NEAR).index);
        assert!(is_up(&near));
        // The smallest buffer: one message fills it.
        let fd = watch.as_fd();
        sockopt::set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 1).unwrap();
        for number in 0..20 {
            ip(&format!("link add more{number} type veth peer name much{number}"));
        }
        ip("link delete more3");
        ip(&format!("link set {NEAR} down"));
        ip(&format!("link set {NEAR} name other0"));
        ip("address add 10.9.8.1/24 dev more4");
        assert!(socket::drops(fd).unwrap() > 0, "nothing was lost");
        assert_eq!(index_of(&watch, NEAR), None);
        assert_eq!(index_of(&watch, "other0"), Some(interface("other0").index));
        assert_eq!(index_of(&watch, "more3"), None);
        for number in (0..20).filter(|number| *number != 3) {
            let name = format!("more{number}");
            assert_eq!(index_of(&watch, &name), Some(interface(&name).index));
        }
        assert!(watch.latest().is_local(Addr::v4([10, 9, 8, 1])));
        assert!(!is_up(&near) && watch.has_changes());
    });
}

#[test]
fn an_invalid_or_interrupted_dump_is_repeated() {
    let mut state = WatchState {
        links: Arc::default(),
        carriers: BTreeMap::new(),
        news: LinkNews::default(),
        has_unread_changes: false,
        listing: Some(Listing::new()),
        failure: None,
    };
    let done = LinkEvent::Listed { interrupted: false };
    let of = |state: &WatchState| state.listing.as_ref().map(|listing| listing.of);
    state.invalidate();
    state.apply(done.clone());
    assert_eq!(of(&state), Some(Dump::Links), "messages were lost during the dump");
    state.apply(LinkEvent::Listed { interrupted: true });
    assert_eq!(of(&state), Some(Dump::Links), "a change interrupted the dump");
    state.apply(LinkEvent::Link(Link { index: 3, name: "a".to_owned(), ..Link::default() }));
    state.apply(done.clone());
    assert_eq!(of(&state), Some(Dump::Addresses));
    assert!(state.links.find("a").is_none() && !state.has_unread_changes);
    state.apply(done);
    assert_eq!(of(&state), None);
    assert!(state.links.find("a").is_some() && state.has_unread_changes);
    // A dump that is interrupted every time is accepted in the end.
    state.listing = Some(Listing::new());
    let mut lists = 0;
    while state.listing.is_some() {
        state.apply(LinkEvent::Listed { interrupted: true });
        lists += 1;
        assert!(lists < 100, "no dump is accepted");
    }
}

#[test]
fn after_a_failure_copies_are_not_held_back() {
    with_cable(|| {
        let watch = Watch::open().unwrap();
        ip(&format!("link set {FAR} down"));
        let near = watch.carrier(interface(NEAR).index);
        wait_until("down is followed", || watch.follow() && !is_up(&near));
        watch.state().fail(&ErrorKind::TimedOut.into());
        assert!(is_up(&near) && !watch.follow());
        let text = watch.failure().unwrap();
        assert!(text.starts_with("the links cannot be watched any more (timed out)"));
        assert!(is_up(&watch.carrier(4711)));
        watch.now().unwrap();
    });
}

#[test]
fn only_flags_in_use_are_kept() {
    with_cable(|| {
        let watch = Watch::open().unwrap();
        let held = watch.carrier(1);
        drop(watch.carrier(2));
        assert!(Arc::ptr_eq(&held, &watch.carrier(1)));
        assert_eq!(watch.state().carriers.keys().collect::<Vec<_>>(), [&1]);
    });
}
