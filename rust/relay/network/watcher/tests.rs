//! When the thread makes the relay follow, and how it ends.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::sockets::testnet::{in_namespace, interface, ip, wait_until};

/// A watcher whose thread counts how often the relay had to follow.
fn counting_watcher(next: NextStep) -> (NetworkWatcher, Arc<AtomicUsize>) {
    let links = NetworkWatcher::new().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let (watch, routes) = (links.watch.clone(), links.routes.clone());
    let follow = move || {
        watch.take_changes();
        routes.update(false, |_| ());
        counter.fetch_add(1, Ordering::Relaxed);
        next
    };
    links.start(follow).unwrap();
    (links, count)
}

#[test]
fn it_follows_at_the_start_and_once_for_many_changes() {
    in_namespace(|| {
        let (links, count) = counting_watcher(NextStep::Wait);
        wait_until("the start is followed", || count.load(Ordering::Relaxed) == 1);
        let carrier = links.watch().carrier(interface("lo").index);
        let start = Instant::now();
        for number in 0..20 {
            ip(&format!("link add name{number} type bridge"));
        }
        ip("link set lo down");
        wait_until("the end is followed", || {
            !carrier.load(Ordering::Relaxed)
                && !links.watch().has_changes()
                && count.load(Ordering::Relaxed) > 1
        });
        // Each time but the last two, the messages had paused before.
        let most = 2 + start.elapsed().as_millis() / QUIET.as_millis();
        let times = count.load(Ordering::Relaxed);
        assert!(times as u128 <= most, "{times} times, at most {most}");
        links.stop();
    });
}

#[test]
fn a_changed_route_is_followed_at_once_and_a_flood_at_a_limited_rate() {
    in_namespace(|| {
        let (links, count) = counting_watcher(NextStep::Wait);
        wait_until("the start is followed", || count.load(Ordering::Relaxed) > 0);
        let before = count.load(Ordering::Relaxed);
        ip("route add 198.51.100.0/24 dev lo");
        wait_until("one is followed", || count.load(Ordering::Relaxed) > before);
        let before = count.load(Ordering::Relaxed);
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < Duration::from_millis(500) {
            ip(&format!("route add 198.51.100.{}/32 dev lo", number % 256));
            ip(&format!("route delete 198.51.100.{}/32 dev lo", number % 256));
            number += 1;
        }
        let times = count.load(Ordering::Relaxed) - before;
        assert!((1..=start.elapsed().as_millis() / 100 + 1).contains(&(times as u128)), "{times}");
        ip("route delete 198.51.100.0/24");
        wait_until("the last is followed", || links.routes().due_at().is_none());
        links.stop();
    });
}

#[test]
fn it_retries_without_a_notification() {
    in_namespace(|| {
        let (links, count) = counting_watcher(NextStep::Retry);
        let start = Instant::now();
        wait_until("it tries again", || count.load(Ordering::Relaxed) >= 2);
        assert!(start.elapsed() >= RETRY / 2);
        links.stop();
    });
}

#[test]
fn the_end_is_prompt_also_after_a_wake_up() {
    in_namespace(|| {
        let (links, _) = counting_watcher(NextStep::Wait);
        let carrier = links.watch().carrier(interface("lo").index);
        links.wake();
        ip("link set lo down");
        wait_until("the thread continues", || !carrier.load(Ordering::Relaxed));
        let start = Instant::now();
        links.stop();
        links.stop();
        assert!(start.elapsed() < RETRY);
    });
}
