use super::*;
use crate::packet::Span;

const RULE: u32 = 7;

fn datagram(source: [u8; 4], ttl: u8) -> Datagram {
    Datagram {
        source: Addr::v4(source),
        group: Addr::v4([239, 1, 1, 1]),
        source_port: 4000,
        port: 5001,
        ttl,
        dscp: 0,
        vlan: 0,
        payload: Span { start: 0, len: 0 },
        segments: 1,
    }
}

fn payload(number: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0x5a; 96]].concat()
}

/// What becomes of windows that each see these arrivals: source, TTL and number of the payload.
fn verdict(arrivals: impl Fn(u32) -> Vec<([u8; 4], u8, u32)>) -> Vec<Looped> {
    let (mut watch, mut found) = (LoopWatch::new(3), Vec::new());
    let mut now_ms = 1;
    let switch = |watch: &mut LoopWatch, now_ms: &mut u64, found: &mut Vec<Looped>| {
        assert!(watch.is_due(*now_ms));
        watch.switch(*now_ms, |looped| found.push(looped));
        *now_ms = watch.next_ms;
    };
    switch(&mut watch, &mut now_ms, &mut found);
    assert!(!watch.is_on());
    switch(&mut watch, &mut now_ms, &mut found);
    for window in 0..8 {
        assert!(watch.is_on());
        for (source, ttl, number) in arrivals(window) {
            let content = payload(number);
            watch.look(RULE, &datagram(source, ttl), &content, content.len());
        }
        switch(&mut watch, &mut now_ms, &mut found);
        if !watch.is_on() {
            switch(&mut watch, &mut now_ms, &mut found);
        }
    }
    found
}

const SENDER: [u8; 4] = [10, 0, 0, 5];
const OTHER: [u8; 4] = [10, 0, 0, 6];

#[test]
fn payloads_that_come_back_again_and_again_are_a_loop() {
    let found = verdict(|window| {
        let back = std::iter::repeat_n((OTHER, 1, window), 5);
        [(SENDER, 16, window)].into_iter().chain(back).collect()
    });
    assert_eq!(found.len(), 6, "{found:?}");
    assert_eq!(found[0], Looped { slot: RULE, payloads: 3, source: Addr::v4(OTHER) });
    assert_eq!(found[5], Looped { slot: RULE, payloads: 1, source: Addr::v4(OTHER) });
}

#[test]
fn a_kept_source_is_told_by_its_ttl() {
    let found = verdict(|window| {
        let back = std::iter::repeat_n((SENDER, 15, window), 4);
        [(SENDER, 16, window)].into_iter().chain(back).collect()
    });
    assert!(!found.is_empty());
}

#[test]
fn fresh_payloads_are_found_among_many_that_go_round() {
    let found = verdict(|window| {
        let old = |_| (0..300).map(|number| (OTHER, 1, 1000 + number));
        let mut arrivals: Vec<_> = (0..2).flat_map(old).collect();
        for number in (0..40).map(|number| 10_000 + window * 100 + number) {
            arrivals.push((SENDER, 16, number));
            arrivals.extend(std::iter::repeat_n((OTHER, 1, number), 6));
        }
        arrivals
    });
    assert!(!found.is_empty());
}

#[test]
fn redundant_feeds_are_no_loop() {
    let found = verdict(|window| {
        let both = |number| [(SENDER, 16, number), (OTHER, 12, number)];
        (0..500).map(|number| window * 1000 + number).flat_map(both).collect()
    });
    assert_eq!(found, []);
    // Each datagram twice, by two networks, and a third one that is late.
    let found = verdict(|window| {
        let all = |number| {
            let each = [(SENDER, 16, number), (OTHER, 12, number)];
            [&each[..], &each[..], &[([10, 0, 0, 7], 3, number)]].concat()
        };
        (0..500).map(|number| window * 1000 + number).flat_map(all).collect()
    });
    assert_eq!(found, []);
}

#[test]
fn repeated_payloads_are_no_loop() {
    // Constant ones, such as those of lighting, from one sender; then from it and a standby.
    let found = verdict(|_| (0..400).map(|at| (SENDER, 16, at % 20)).collect());
    assert_eq!(found, []);
    let found = verdict(|_| {
        let both = |at: u32| [(SENDER, 16, at % 20), (OTHER, 16, at % 20)];
        (0..400).flat_map(both).collect()
    });
    assert_eq!(found, []);
    // The same question from many hosts.
    let found = verdict(|window| {
        let host = |last| std::iter::repeat_n(([10, 0, 1, last], 2, window), 3);
        (0..50).flat_map(host).collect()
    });
    assert_eq!(found, []);
}

#[test]
fn a_standby_that_takes_over_is_no_loop() {
    let found = verdict(|window| {
        let source = if window < 4 { SENDER } else { OTHER };
        let takes_over = if window == 4 { vec![(SENDER, 16, 1), (SENDER, 16, 2)] } else { vec![] };
        takes_over.into_iter().chain((0..400).map(|at| (source, 16, at % 20))).collect()
    });
    assert_eq!(found, []);
}

#[test]
fn merged_datagrams_are_looked_at_one_by_one() {
    let mut watch = LoopWatch::new(3);
    watch.switch(1, |_| {});
    watch.switch(2, |_| {});
    let mut found = Vec::new();
    let content: Vec<u8> = (0..3).flat_map(payload).collect();
    watch.look(RULE, &datagram(SENDER, 16), &content, 100);
    (0..4).for_each(|_| watch.look(RULE, &datagram(OTHER, 1), &content, 100));
    watch.switch(3, |looped| found.push(looped));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_slot_with_a_new_owner_is_forgotten() {
    let (mut watch, mut found) = (LoopWatch::new(3), Vec::new());
    watch.switch(1, |_| {});
    watch.switch(2, |_| {});
    for number in 0..3 {
        watch.look(RULE, &datagram(SENDER, 16), &payload(number), 100);
        (0..4).for_each(|_| watch.look(RULE, &datagram(OTHER, 1), &payload(number), 100));
    }
    watch.forget(RULE);
    watch.switch(3, |looped| found.push(looped));
    assert_eq!(found, []);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_looked_at(contents: Vec<Vec<u8>>, segment: usize) {
        let mut watch = LoopWatch::new(3);
        watch.switch(1, |_| {});
        watch.switch(2, |_| {});
        for content in &contents {
            watch.look(RULE, &datagram(SENDER, 16), content, segment);
        }
        watch.switch(3, |_| {});
    }
}
