//! When the thread lets the relay follow, and how it ends.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::open::testnet::{in_namespace, interface, ip, wait_until};

/// Links whose thread counts how often the relay had to follow.
fn counted(next: Next) -> (Links, Arc<AtomicUsize>) {
    let links = Links::new().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let watch = links.watch.clone();
    let follow = move || {
        watch.take_news();
        counter.fetch_add(1, Ordering::Relaxed);
        next
    };
    links.start(follow).unwrap();
    (links, count)
}

#[test]
fn it_follows_at_the_start_and_once_for_many_changes() {
    in_namespace(|| {
        let (links, count) = counted(Next::Wait);
        wait_until("the start is followed", || count.load(Ordering::Relaxed) == 1);
        let carrier = links.watch().carrier(interface("lo").index);
        for number in 0..20 {
            ip(&format!("link add name{number} type bridge"));
        }
        ip("link set lo down");
        wait_until("the end is followed", || {
            !carrier.load(Ordering::Relaxed) && !links.watch().has_news()
        });
        let times = count.load(Ordering::Relaxed);
        assert!(times > 1 && times < 20, "{times}");
        links.stop();
    });
}

#[test]
fn it_tries_again_what_nobody_tells_of() {
    in_namespace(|| {
        let (links, count) = counted(Next::Retry);
        let start = Instant::now();
        wait_until("it tries again", || count.load(Ordering::Relaxed) >= 2);
        assert!(start.elapsed() >= RETRY / 2);
        links.stop();
    });
}

#[test]
fn the_end_is_prompt_whoever_writes_to_the_wake_up() {
    in_namespace(|| {
        let (links, _) = counted(Next::Wait);
        let carrier = links.watch().carrier(interface("lo").index);
        links.wake();
        ip("link set lo down");
        wait_until("the thread goes on", || !carrier.load(Ordering::Relaxed));
        let start = Instant::now();
        links.stop();
        links.stop();
        assert!(start.elapsed() < RETRY);
    });
}
