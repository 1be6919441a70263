//! Memberships as listed by the kernel, in namespaces of their own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::sockets::testnet::{NEAR, in_namespace, interface, wait_for, with_cable};

/// The groups of 239.1.0.0/16 that the kernel lists, in the thread's namespace.
fn v4_groups() -> usize {
    let text = fs::read_to_string("/proc/thread-self/net/igmp").unwrap();
    // The file prints the bytes in memory order: 239.1.x.y is yyxx01EF here.
    let wanted = if cfg!(target_endian = "little") { "01EF" } else { "EF01" };
    text.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.len() == 8 && word.contains(wanted))
        .count()
}

fn v6_groups() -> usize {
    let text = fs::read_to_string("/proc/thread-self/net/igmp6").unwrap();
    text.matches("ff3e").count()
}

/// The (source, group) pairs that the kernel lists for either family.
fn v4_sources() -> usize {
    fs::read_to_string("/proc/thread-self/net/mcfilter").unwrap().lines().count() - 1
}

fn v4(last: u8) -> Addr {
    Addr::v4([239, 1, 1, last])
}

fn sources(count: u8) -> Vec<Addr> {
    (0..count).map(|last| Ipv4Addr::new(10, 9, 0, last + 1).into()).collect()
}

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn forty_five_groups_take_three_sockets() {
    with_cable(|| {
        let near = interface(NEAR);
        let mut joins = Joins::new();
        for last in 0..45 {
            joins.join(near.index, near.name, v4(last), &[]).unwrap();
        }
        assert_eq!(joins.holders.len(), 3);
        assert_eq!(v4_groups(), 45);
        for last in 0..45 {
            joins.leave(near.index, v4(last), &[]).unwrap();
        }
        assert_eq!(v4_groups(), 0);
        assert!(joins.holders.is_empty() && joins.held.is_empty());
    });
}

#[test]
fn free_room_is_reused() {
    in_namespace(|| {
        let lo = interface("lo");
        let mut joins = Joins::new();
        for last in 0..40 {
            joins.join(lo.index, lo.name, v4(last), &[]).unwrap();
        }
        joins.leave(lo.index, v4(3), &[]).unwrap();
        joins.join(lo.index, lo.name, v4(77), &[]).unwrap();
        assert_eq!((joins.holders.len(), v4_groups()), (2, 40));
    });
}

#[test]
fn ipv6_groups_are_joined_without_any_address() {
    in_namespace(|| {
        let lo = interface("lo");
        let mut joins = Joins::new();
        for last in 0..200_u16 {
            let group = Ipv6Addr::new(0xff3e, 0, 0, 0, 0, 0, 0, last).into();
            joins.join(lo.index, lo.name, group, &[]).unwrap();
        }
        assert_eq!(v6_groups(), 200);
        drop(joins);
        wait_for(0, v6_groups);
    });
}

#[test]
fn many_sources_of_one_group_take_several_sockets() {
    in_namespace(|| {
        let lo = interface("lo");
        let mut joins = Joins::new();
        joins.join(lo.index, lo.name, v4(1), &sources(25)).unwrap();
        // net.ipv4.igmp_max_msf is 10 in a new namespace.
        assert_eq!(joins.holders.len(), 3);
        assert_eq!((v4_groups(), v4_sources()), (1, 25));
        joins.leave(lo.index, v4(1), &sources(25)).unwrap();
        assert_eq!((v4_groups(), v4_sources()), (0, 0));
    });
}

#[test]
fn source_lists_and_any_source_are_separate_memberships() {
    in_namespace(|| {
        let lo = interface("lo");
        let mut joins = Joins::new();
        joins.join(lo.index, lo.name, v4(1), &sources(1)).unwrap();
        joins.join(lo.index, lo.name, v4(1), &[]).unwrap();
        joins.join(lo.index, lo.name, v4(1), &sources(2)).unwrap();
        assert_eq!(joins.holders.len(), 3);
        joins.leave(lo.index, v4(1), &[]).unwrap();
        assert_eq!((v4_groups(), v4_sources()), (1, 2));
        joins.leave(lo.index, v4(1), &sources(2)).unwrap();
        assert_eq!((v4_groups(), v4_sources()), (1, 1));
    });
}

#[test]
fn a_group_joined_twice_must_be_left_twice() {
    in_namespace(|| {
        let lo = interface("lo");
        let mut joins = Joins::new();
        let (forth, mut back) = (sources(2), sources(2));
        back.reverse();
        joins.join(lo.index, lo.name, v4(1), &forth).unwrap();
        joins.join(lo.index, lo.name, v4(1), &back).unwrap();
        joins.leave(lo.index, v4(1), &forth).unwrap();
        assert_eq!(v4_groups(), 1);
        joins.leave(lo.index, v4(1), &forth).unwrap();
        assert_eq!(v4_groups(), 0);
        let error = joins.leave(lo.index, v4(1), &forth).unwrap_err();
        assert_eq!(error.to_string(), "239.1.1.1 is not joined in this way");
    });
}

#[test]
fn a_join_that_fails_halfway_leaves_nothing() {
    in_namespace(|| {
        let lo = interface("lo");
        let mut joins = Joins::new();
        // The IPv6 source comes last and is refused, when two sockets are members already.
        let mut mixed = sources(25);
        mixed.push(addr("2001:db8::1"));
        joins.join(lo.index, lo.name, v4(1), &mixed).unwrap_err();
        assert_eq!((v4_groups(), v4_sources()), (0, 0));
        assert!(joins.holders.is_empty() && joins.held.is_empty());
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    in_namespace(|| {
        let error = Joins::new().join(99, "eth9", v4(1), &[]).unwrap_err().to_string();
        assert!(error.contains("eth9 for 239.1.1.1: No such device"), "{error}");
    });
}

#[test]
fn the_sysctl_that_is_too_small_is_named() {
    in_namespace(|| {
        let lo = interface("lo");
        fs::write("/proc/sys/net/ipv4/igmp_max_memberships", "0").unwrap();
        let error = Joins::new().join(lo.index, lo.name, v4(1), &[]).unwrap_err().to_string();
        assert!(error.contains("raise net.ipv4.igmp_max_memberships"), "{error}");
    });
}

#[test]
fn leaving_works_after_the_interface_is_gone() {
    with_cable(|| {
        let near = interface(NEAR);
        let mut joins = Joins::new();
        for group in [v4(1), addr("ff3e::1")] {
            joins.join(near.index, near.name, group, &[]).unwrap();
        }
        crate::sockets::testnet::ip(&format!("link delete {NEAR}"));
        for group in [v4(1), addr("ff3e::1")] {
            joins.leave(near.index, group, &[]).unwrap();
        }
        assert!(joins.holders.is_empty());
    });
}
