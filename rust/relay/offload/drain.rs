//! Rules whose copies another CPU makes, before the engine takes them over.
//!
//! The program hands their datagrams to that CPU until the copies of all before have left, and
//! passes them from then on. A queue that is never empty loses what it does not hold; it then loses
//! everything until it is empty, as an engine would overtake it otherwise.

use std::thread;
use std::time::{Duration, Instant};

use crate::offload::{KernelTable, Mode};

const LOOK: Duration = Duration::from_millis(2);
/// How often the same counts are read before nothing moves for certain: of a rule that has copied
/// what it took, and of one whose queue has lost datagrams at some time or whose CPU is busy.
const SAME_LOOKS: u32 = 4;
const SAME_LOOKS_IF_UNEQUAL: u32 = 50;
/// How long the copies of a queue that is sometimes empty take to leave, and those of a full one.
const PATIENCE: Duration = Duration::from_millis(500);

/// Has everything leave that the queues of other CPUs hold of these rules. They pass all their
/// datagrams then.
pub(super) fn finish(table: &mut KernelTable, keys: &[u64]) {
    if keys.is_empty() {
        return;
    }
    for key in keys {
        table.set_mode(*key, Mode::Drain).ok();
    }
    let busy = wait_until_still(table, keys, Mode::Drain);
    for key in &busy {
        table.set_mode(*key, Mode::Shed).ok();
    }
    wait_until_still(table, &busy, Mode::Shed);
}

/// Waits until the counts of rules in this mode stay the same; returns those that do not.
fn wait_until_still(table: &KernelTable, keys: &[u64], mode: Mode) -> Vec<u64> {
    let read = |key: u64| {
        let counters = table.counters(key).unwrap_or_default();
        let (matched, copied) = (counters.matched.datagrams, counters.copied.datagrams);
        let wanted = if counters.is_copied() { SAME_LOOKS } else { SAME_LOOKS_IF_UNEQUAL };
        // A rule that sheds takes everything, and nothing of it is copied any more.
        (if mode == Mode::Shed { 0 } else { matched }, copied, wanted)
    };
    let deadline = Instant::now() + PATIENCE;
    let mut moving: Vec<_> = keys.iter().map(|key| (*key, read(*key), 0)).collect();
    while !moving.is_empty() && Instant::now() < deadline {
        thread::sleep(LOOK);
        for (key, last, looks) in &mut moving {
            let now = read(*key);
            *looks = if now == *last { *looks + 1 } else { 0 };
            *last = now;
        }
        moving.retain(|(_, (_, _, wanted), looks)| looks < wanted);
    }
    moving.into_iter().map(|(key, ..)| key).collect()
}
