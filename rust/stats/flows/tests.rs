use super::*;
use crate::packet::Span;
use crate::stats::{Grant, Slot, SlotOwner, Writer, create_page, read, rule, take_over};

const SLOT: Slot = Slot { index: 3, generation: 5 };

/// A datagram whose numbers are not read.
fn content(datagram: &Datagram) -> Content<'_> {
    Content { datagram, sequence: SequenceSpec::None, payload: &[], segment: 0, arrival_ns: 1 }
}

fn datagram(sender: u16, port: u16) -> Datagram {
    let [high, low] = sender.to_be_bytes();
    Datagram {
        source: Addr::v4([10, 0, high, low]),
        group: Addr::v4([239, 1, 1, 1]),
        source_port: port,
        port: 5001,
        ttl: 16,
        dscp: 46,
        vlan: 0,
        payload: Span { start: 0, len: 300 },
        segments: 3,
    }
}

fn grant(slot: Slot, is_continued: bool) -> Grant {
    Grant { slot, owner: SlotOwner::rule("a"), is_continued }
}

#[test]
fn each_sender_and_port_is_a_flow() {
    let page = create_page().unwrap();
    assert_eq!(read_flows(page.view()), None);
    let mut writer = Writer::new(page.clone());
    writer.count_flows();
    writer.grant(&grant(SLOT, false));
    for (now_ms, ttl, flow) in
        [(10, 16, (1, 7)), (20, 16, (1, 8)), (30, 12, (2, 7)), (40, 12, (1, 7))]
    {
        writer.set_time(now_ms);
        writer.count_flow(SLOT.index, &content(&Datagram { ttl, ..datagram(flow.0, flow.1) }));
    }
    writer.publish();
    let mut flows = read_flows(page.view()).unwrap();
    flows.sort_by_key(|flow| (flow.source.bits(), flow.source_port));
    let facts: Vec<_> = flows
        .iter()
        .map(|it| (it.source, it.source_port, it.datagrams, it.bytes, it.seen_ms, it.ttls))
        .collect();
    let [one, two] = [1, 2].map(|last| Addr::v4([10, 0, 0, last]));
    assert_eq!(
        facts,
        [
            (one, 7, 6, 600, [10, 40], [12, 16]),
            (one, 8, 3, 300, [20, 20], [16, 16]),
            (two, 7, 3, 300, [30, 30], [12, 12]),
        ]
    );
    assert!(flows.iter().all(|flow| flow.dscps == 1 << 46 && flow.port == 5001));
    assert!(flows.iter().all(|flow| flow.rule == SlotOwner::rule("a").tag()));
}

#[test]
fn the_table_is_bounded_and_what_gives_way_is_counted() {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    writer.count_flows();
    writer.grant(&grant(SLOT, false));
    const SENDERS: u16 = 40_000;
    for sender in 0..SENDERS {
        writer.set_time(u64::from(sender) + 1);
        // Its last sender, which sends all the time, stays.
        writer.count_flow(SLOT.index, &content(&datagram(sender, 7)));
        writer.count_flow(SLOT.index, &content(&datagram(SENDERS, 7)));
    }
    writer.publish();
    let flows = read_flows(page.view()).unwrap();
    assert!(flows.len() > MAX_FLOWS * 9 / 10, "{}", flows.len());
    let evicted = read(page.view(), SLOT).unwrap()[rule::FLOWS_EVICTED];
    assert_eq!(usize::try_from(evicted).unwrap() + flows.len(), usize::from(SENDERS) + 1);
    assert!(flows.iter().any(|flow| flow.datagrams == 3 * u64::from(SENDERS)));
}

#[test]
fn a_successor_continues_the_flows_of_its_rules() {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    writer.count_flows();
    writer.set_time(1);
    writer.grant(&grant(SLOT, false));
    writer.count_flow(SLOT.index, &content(&datagram(1, 7)));
    writer.publish();
    drop(writer);
    take_over(&page).unwrap();
    let mut successor = Writer::new(page.clone());
    successor.count_flows();
    successor.set_time(9);
    successor.grant(&grant(Slot { generation: 6, ..SLOT }, true));
    successor.count_flow(SLOT.index, &content(&datagram(1, 7)));
    successor.publish();
    let flows = read_flows(page.view()).unwrap();
    assert_eq!((flows.len(), flows[0].datagrams, flows[0].seen_ms), (1, 6, [1, 9]));
    // A rule that is removed and added again begins anew.
    successor.grant(&grant(Slot { generation: 7, ..SLOT }, false));
    successor.publish();
    assert_eq!(read_flows(page.view()), Some(Vec::new()));
}

#[test]
fn rows_with_nonsense_end_in_time() {
    let page = create_page().unwrap();
    let mut writer = Writer::new(page.clone());
    writer.count_flows();
    let start = crate::stats::FLOWS_START;
    for cell in &page.words()[start..start + WORDS] {
        cell.store(u64::MAX, std::sync::atomic::Ordering::Relaxed);
    }
    assert_eq!(read_flows(page.view()), Some(Vec::new()));
    let mut successor = Writer::new(page.clone());
    successor.count_flows();
    successor.grant(&grant(SLOT, false));
    successor.count_flow(SLOT.index, &content(&datagram(1, 7)));
    successor.publish();
    assert_eq!(read_flows(page.view()).unwrap().len(), 1);
}
