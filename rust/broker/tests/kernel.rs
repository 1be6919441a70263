//! The relay in the kernel, which outlives its worker.

use super::*;
use crate::broker::messages::{InterfaceId, PROTOCOL, Request};
use crate::broker::testbed::{BUFFER_BYTES, Death};
use crate::error::{Error, Result};
use crate::offload::{
    Endpoint, Fan, KernelOpener, KernelOutput, KernelRule, KernelTable, Mode, Put,
};
use crate::sockets::InterfaceRef;
use crate::spec::Ttl;

fn supervisor() -> TestSupervisor {
    let supervisor = TestSupervisor::new(1, Ingress::Udp);
    supervisor.server.lock().unwrap().allow_offload().unwrap();
    supervisor
}

/// A worker, its side of the relay in the kernel, and the handle that kills it.
fn worker(supervisor: &TestSupervisor) -> (BrokerClient, KernelClient, Death) {
    let (worker, death) = supervisor.worker(0);
    let kernel = worker.kernel();
    (worker, kernel, death)
}

fn is_attached(name: &str) -> bool {
    ip(&format!("link show {name}")).contains("xdp")
}

/// A rule from the far end of the cable to two groups at its near end.
fn put(kernel: &KernelClient) -> Put {
    let index = interface(NEAR).index;
    let output = KernelOutput {
        ifindex: index,
        address: OTHER,
        port: 6001,
        source: Choice::Keep,
        source_port: Choice::Keep,
        ttl: Ttl::Set(1),
        dscp: None,
        source_mac: [2; 6],
        destination_mac: [1; 6],
    };
    let endpoint = Endpoint { ifindex: interface(FAR).index, vlan: 0, group: GROUP, port: 5001 };
    let outputs = vec![output; 2];
    let rule = KernelRule { endpoint, sources: Vec::new(), outputs, max_bytes: 1500, cpu: None };
    let fan = kernel.fan(&rule.shape()).unwrap();
    Put { key: 1, rule, fan, mode: Mode::Relay }
}

fn kept_fans(supervisor: &TestSupervisor) -> (usize, usize) {
    supervisor.server.lock().unwrap().kernel.as_ref().unwrap().fans()
}

#[test]
fn attachments_and_fans_end_when_they_are_returned() {
    with_cable(|| {
        let supervisor = supervisor();
        let (_worker, kernel, _death) = worker(&supervisor);
        let attachment = kernel.attach(interface(FAR)).unwrap();
        assert!(is_attached(FAR));
        let (first, second) = (put(&kernel).fan, put(&kernel).fan);
        assert_eq!((first.number(), kept_fans(&supervisor)), (second.number(), (2, 0)));
        assert_eq!(first.devices().keys().copied().collect::<Vec<_>>(), [interface(NEAR).index]);
        drop((attachment, first, second));
        wait_until("it is detached", || !is_attached(FAR));
        wait_until("no fan is kept", || kept_fans(&supervisor) == (0, 0));
        kernel.add_cpu(0).unwrap();
        kernel.add_cpu(0).unwrap();
        kernel.add_cpu(1 << 20).unwrap_err();
    });
}

#[test]
fn a_successor_takes_over_what_its_predecessor_relayed() {
    with_cable(|| {
        let supervisor = supervisor();
        let (first, kernel, death) = worker(&supervisor);
        let attachment = kernel.attach(interface(FAR)).unwrap();
        let mut table = KernelTable::open(kernel.maps().unwrap()).unwrap();
        assert!(table.change(&[], vec![put(&kernel)]).unwrap().is_empty());
        death.come();
        drop((attachment, table, first, kernel));
        assert!(is_attached(FAR));

        let (second, kernel, death) = worker(&supervisor);
        assert!(is_attached(FAR));
        assert_eq!(kept_fans(&supervisor), (0, 1));
        let _attachment = kernel.attach(interface(FAR)).unwrap();
        let mut table = KernelTable::open(kernel.maps().unwrap()).unwrap();
        let replaced = table.change(&[], vec![put(&kernel)]).unwrap();
        assert_eq!(replaced.iter().map(|rule| rule.endpoint().port).collect::<Vec<_>>(), [5001]);
        second.release_unclaimed().unwrap();
        assert!(is_attached(FAR));
        assert_eq!(kept_fans(&supervisor), (1, 0));
        death.come();
        drop((table, second, kernel));

        // The third one needs neither.
        let (third, _kernel, _death) = worker(&supervisor);
        third.release_unclaimed().unwrap();
        assert!(!is_attached(FAR));
        assert_eq!(kept_fans(&supervisor), (0, 0));
    });
}

#[test]
fn the_end_of_the_supervisor_detaches() {
    with_cable(|| {
        let supervisor = supervisor();
        let (_worker, kernel, _death) = worker(&supervisor);
        let _attachments = [NEAR, FAR].map(|name| kernel.attach(interface(name)).unwrap());
        assert_eq!(supervisor.server.lock().unwrap().hooks(), 2);
        supervisor.server.lock().unwrap().forget();
        assert!(!is_attached(FAR) && !is_attached(NEAR));
    });
}

#[test]
fn an_attachment_to_a_removed_interface_is_replaced() {
    with_cable(|| {
        let supervisor = supervisor();
        let (_worker, kernel, _death) = worker(&supervisor);
        let old = kernel.attach(interface(FAR)).unwrap();
        renew_cable();
        let new = kernel.attach(interface(FAR)).unwrap();
        assert_eq!(supervisor.server.lock().unwrap().hooks(), 1);
        drop(old);
        assert_eq!(put(&kernel).fan.devices().len(), 1, "the worker is still served");
        assert!(is_attached(FAR));
        drop(new);
        wait_until("it is detached", || !is_attached(FAR));
    });
}

#[test]
fn what_the_kernel_refuses_is_told_to_the_worker() {
    with_cable(|| {
        let supervisor = supervisor();
        let (_worker, kernel, _death) = worker(&supervisor);
        let _held = kernel.attach(interface(FAR)).unwrap();
        let Err(Error::Invalid(text)) = kernel.attach(interface(FAR)) else { panic!("attached") };
        assert!(text.contains("another XDP program is attached"), "{text}");
        let is_gone = |result: Result<()>| match result {
            Err(Error::Os { source, .. }) => source.raw_os_error() == Some(libc::ENODEV),
            _ => false,
        };
        assert!(is_gone(kernel.attach(InterfaceRef { index: 7777, name: "gone" }).map(drop)));
        assert!(is_gone(kernel.fan(&vec![(7777, 1)]).map(drop)));
        assert_eq!(put(&kernel).fan.devices().len(), 1, "the worker is still served");
    });
}

#[test]
fn a_worker_has_limited_numbers_of_attachments_and_fans() {
    in_namespace(|| {
        let supervisor = supervisor();
        let (_worker, kernel, _death) = worker(&supervisor);
        let names: Vec<String> = (0..33).map(|number| format!("tap{number}")).collect();
        for name in &names {
            ip(&format!("tuntap add {name} mode tap"));
        }
        let mut held: Vec<_> = names.iter().map(|name| kernel.attach(interface(name))).collect();
        let Some(Err(Error::Invalid(text))) = held.pop() else { panic!("attached") };
        assert_eq!(text, "the kernel can relay from at most 32 interfaces");
        assert!(held.iter().all(Result::is_ok));
        held.pop();
        kernel.attach(interface(&names[32])).unwrap();
        let shape = vec![(interface(&names[0]).index, 1)];
        let fans: Result<Vec<Fan>> = (0..9000).map(|_| kernel.fan(&shape)).collect();
        let text = fans.unwrap_err().to_string();
        assert!(text.contains("the kernel relays at most 8192"), "{text}");
        kernel.fan(&shape).unwrap();
    });
}

#[test]
fn only_the_worker_of_a_daemon_that_asked_for_it_may_use_it() {
    with_cable(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Udp);
        let (_worker, kernel, _death) = worker(&supervisor);
        let Err(error) = kernel.attach(interface(FAR)) else { panic!("attached") };
        assert!(error.to_string().contains("the supervisor does not answer"), "{error}");
        let mut two = BrokerServer::new(2, Ingress::Udp, BUFFER_BYTES).unwrap();
        let error = two.allow_offload().unwrap_err().to_string();
        assert_eq!(error, "offload: only a daemon with one worker can relay in the kernel");
    });
}

fn ends_connection(requests: &[Request]) -> bool {
    let mut server = BrokerServer::new(1, Ingress::Udp, BUFFER_BYTES).unwrap();
    server.allow_offload().unwrap();
    testbed::ends_connection(server, requests)
}

#[test]
fn requests_that_no_worker_sends_end_the_connection() {
    with_cable(|| {
        let (near, far) = (interface(NEAR).index, InterfaceId::from(&interface(FAR)));
        let fan = |shape: Vec<(u32, u16)>| Request::KernelFan { shape };
        let hook = |interface| Request::KernelHook { interface };
        for wrong in [
            Request::KernelMap { number: 10 },
            hook(InterfaceId { index: 0, ..far.clone() }),
            hook(InterfaceId { name: "a/b".to_owned(), ..far.clone() }),
            fan(vec![]),
            fan(vec![(0, 1)]),
            fan(vec![(near, 0)]),
            fan(vec![(near, 65)]),
            fan(vec![(near, u16::MAX); 8]),
            fan(vec![(near, 1), (near, 1)]),
            fan((1..=9).map(|index| (index, 1)).collect()),
        ] {
            assert!(ends_connection(std::slice::from_ref(&wrong)), "{wrong:?}");
        }
        let release = |leases| Request::Release { leases };
        let (first, second) = (hook(far), fan(vec![(near, 64)]));
        assert!(!ends_connection(&[first.clone(), second.clone(), release(vec![2, 1])]));
        assert!(ends_connection(&[first.clone(), second.clone(), release(vec![3])]));
        assert!(ends_connection(&[first.clone(), release(vec![1, 1])]), "returned twice");
        let again = Request::Hello { protocol: PROTOCOL };
        assert!(ends_connection(&[first.clone(), second, again, release(vec![2])]), "an old one");
        let lease = 1;
        for foreign in [
            Request::XdpMemory { lease },
            Request::Filter { lease, blocks: Vec::new() },
            Request::JoinBy { lease, sources: Vec::new() },
        ] {
            assert!(ends_connection(&[first.clone(), foreign]), "of another kind");
        }
    });
}
