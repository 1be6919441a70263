//! Requests that are sent in advance.

use std::thread;

use nix::poll::{PollFd, PollFlags, poll};

use super::*;
use crate::broker::messages::{Answer, Request};
use crate::broker::testbed::pair;
use crate::sockets::provider::ExpectedCall;
use crate::sys::scm_rights;

const THIRD: Addr = Addr::v4([239, 1, 1, 3]);
const TIMEOUT_MS: u16 = 20_000;

fn join(group: Addr) -> ExpectedCall {
    let lo = interface("lo");
    ExpectedCall::Join { interface: (lo.index, "lo".to_owned()), group, sources: Box::default() }
}

fn output(key: u64) -> ExpectedCall {
    ExpectedCall::Output { key, spec: spec(GROUP, "lo") }
}

/// The next request of a worker.
fn request(far: &impl AsFd) -> Request {
    let ready = poll(&mut [PollFd::new(far.as_fd(), PollFlags::POLLIN)], TIMEOUT_MS);
    assert_eq!(ready, Ok(1), "the worker waits for an answer");
    let mut room = vec![0; 4096];
    let len = scm_rights::receive_bytes(far.as_fd(), &mut room, MsgFlags::empty()).unwrap();
    Request::from_bytes(&room[..len]).unwrap()
}

fn confirm(far: &impl AsFd) {
    let done = Answer::Done {}.to_bytes();
    scm_rights::send(far.as_fd(), &done, None, MsgFlags::empty()).unwrap();
}

#[test]
fn expected_requests_do_not_wait_for_answers() {
    let (near, far) = pair();
    let supervisor = thread::spawn(move || {
        request(&far);
        confirm(&far);
        let asked: Vec<Request> = (0..3).map(|_| request(&far)).collect();
        asked.iter().for_each(|_| confirm(&far));
        asked
    });
    let worker = BrokerClient::new(near).unwrap();
    let lo = interface("lo");
    worker.expect(&mut [GROUP, OTHER, THIRD].map(join).into_iter());
    for group in [GROUP, OTHER, THIRD] {
        worker.join(&lo, group, &[]).unwrap();
    }
    worker.forget_expected();
    let asked = supervisor.join().unwrap().into_iter().map(|request| match request {
        Request::Join { group, .. } => group,
        other => panic!("{other:?}"),
    });
    assert_eq!(asked.collect::<Vec<_>>(), [GROUP, OTHER, THIRD]);
}

#[test]
fn what_was_expected_and_is_not_requested_is_undone() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let (worker, _death) = supervisor.worker(0);
        let (lo, spec) = (interface("lo"), spec(GROUP, "lo"));
        let expected = [output(1), join(GROUP), output(2), join(OTHER), join(THIRD), output(3)];
        worker.expect(&mut expected.into_iter());
        // Neither the order nor the announcement has to be right.
        let _used = [2, 4, 3].map(|key| worker.output(key, &spec).unwrap());
        worker.join(&lo, OTHER, &[]).unwrap();
        assert_eq!(groups("lo"), 3);
        worker.forget_expected();
        assert_eq!(groups("lo"), 1);
        wait_until("one socket is left for each use", || supervisor.open_sockets() == 4);
        let _again = worker.output(1, &spec).unwrap();
        assert_eq!(supervisor.open_sockets(), 5);
    });
}

#[test]
fn a_refusal_belongs_to_its_request() {
    in_namespace(|| {
        let supervisor = TestSupervisor::new(1, Ingress::Packet);
        let (worker, _death) = supervisor.worker(0);
        let good = spec(GROUP, "lo");
        let bad = OutputSpec { ifindex: 9999, ..good.clone() };
        let expected = [(1, &bad), (2, &good), (3, &bad)]
            .map(|(key, spec)| ExpectedCall::Output { key, spec: spec.clone() });
        worker.expect(&mut expected.into_iter());
        let _used = worker.output(2, &good).unwrap();
        let refused = worker.output(1, &bad).unwrap_err().to_string();
        assert_eq!(refused, worker.output(4, &bad).unwrap_err().to_string());
        worker.forget_expected();
        assert_eq!(supervisor.open_sockets(), 1);
    });
}
