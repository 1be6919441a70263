//! What the kernel's answer to a send means for its datagrams (udp(7), ip(7)).
//! It must not know sockets.

use super::limits::SendLimits;
use crate::stats::Loss;

/// What becomes of the datagrams of one send that the kernel did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// To be sent again: in smaller portions, or (`repeated`) once more as they are.
    Again { repeated: bool },
    /// Lost for a reason of its own.
    Lost(Loss),
    /// To be sent again as they are: the socket is being connected anew.
    Unconnected,
    /// To be sent again one by one: either their number is refused, or what the envelope says.
    Alone,
    /// Lost as `send_error`.
    Failed,
    /// Lost as `send_error`, and so will be the rest of the batch, whose envelope is the same.
    FailedLikeAll,
}

/// One send, as it was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) datagrams: u32,
    /// Bytes of each.
    pub(super) segment: u32,
    /// Whether it was the second attempt after an error of an earlier datagram.
    pub(super) repeated: bool,
    /// Whether it said more than its socket does.
    pub(super) enveloped: bool,
    /// How many datagrams the attempt before had, which ended in [`SendOutcome::Alone`]; else 0.
    pub(super) refused: u32,
}

/// Judges why a send was refused, and learns from it.
pub(super) fn judge(errno: u32, attempt: Attempt, limits: &mut SendLimits) -> SendOutcome {
    let Attempt { datagrams, segment, repeated, enveloped, refused } = attempt;
    match errno.cast_signed() {
        // ENOBUFS is the queueing discipline, reported because of IP_RECVERR.
        libc::EAGAIN | libc::ENOBUFS => SendOutcome::Lost(Loss::OutputFull),
        libc::EMSGSIZE if datagrams > 1 => {
            limits.refuse_size(segment);
            SendOutcome::Again { repeated }
        }
        // A sender chooses what some envelopes say: what is wrong with them must teach nothing.
        libc::EINVAL if datagrams > 1 && enveloped => SendOutcome::Alone,
        libc::EINVAL if refused > 0 => SendOutcome::FailedLikeAll,
        libc::EINVAL if datagrams > 1 => {
            limits.refuse_count(datagrams);
            SendOutcome::Again { repeated }
        }
        libc::EIO | libc::EOPNOTSUPP if datagrams > 1 => {
            limits.refuse_segments();
            SendOutcome::Again { repeated }
        }
        libc::EDESTADDRREQ => SendOutcome::Unconnected,
        errno if !repeated && is_answer_to_an_earlier_datagram(errno) => {
            SendOutcome::Again { repeated: true }
        }
        libc::EMSGSIZE => SendOutcome::Lost(Loss::TooBig),
        _ => SendOutcome::Failed,
    }
}

/// Errors that ICMP brings: a connected socket reports them with the next send, which is then not
/// carried out (udp(7), "Error handling"; RFC 1122, 4.1.3.3).
fn is_answer_to_an_earlier_datagram(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EPROTO
            | libc::EACCES
            | libc::EMSGSIZE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Attempt =
        Attempt { datagrams: 1, segment: 1400, repeated: false, enveloped: false, refused: 0 };

    fn judge_fresh(errno: i32, datagrams: u32, repeated: bool) -> (SendOutcome, SendLimits) {
        let mut limits = SendLimits::default();
        limits.start(1472, None);
        let attempt = Attempt { datagrams, repeated, ..PLAIN };
        (judge(errno.unsigned_abs(), attempt, &mut limits), limits)
    }

    #[test]
    fn a_refused_batch_is_split_and_the_refusal_remembered() {
        for (errno, chunk) in [(libc::EMSGSIZE, 1), (libc::EINVAL, 20), (libc::EIO, 1)] {
            let (outcome, limits) = judge_fresh(errno, 40, false);
            assert_eq!(outcome, SendOutcome::Again { repeated: false });
            assert_eq!(limits.chunk(1400, 40), chunk);
        }
    }

    #[test]
    fn an_answer_to_an_earlier_datagram_costs_nothing_once() {
        let (first, _) = judge_fresh(libc::ECONNREFUSED, 5, false);
        assert_eq!(first, SendOutcome::Again { repeated: true });
        let (second, _) = judge_fresh(libc::ECONNREFUSED, 5, true);
        assert_eq!(second, SendOutcome::Failed);
    }

    #[test]
    fn a_socket_that_is_being_connected_anew_is_waited_for() {
        assert_eq!(judge_fresh(libc::EDESTADDRREQ, 5, true).0, SendOutcome::Unconnected);
    }

    #[test]
    fn full_and_too_big_have_reasons_of_their_own() {
        assert_eq!(judge_fresh(libc::EAGAIN, 3, false).0, SendOutcome::Lost(Loss::OutputFull));
        assert_eq!(judge_fresh(libc::ENOBUFS, 3, false).0, SendOutcome::Lost(Loss::OutputFull));
        assert_eq!(judge_fresh(libc::EMSGSIZE, 1, true).0, SendOutcome::Lost(Loss::TooBig));
        assert_eq!(judge_fresh(libc::EPERM, 1, false).0, SendOutcome::Failed);
    }

    /// What a sender wrote into its headers must not slow down the copies of others.
    #[test]
    fn a_refused_envelope_teaches_nothing_and_a_refused_number_does() {
        let mut limits = SendLimits::default();
        limits.start(1472, None);
        let batch = Attempt { datagrams: 40, enveloped: true, ..PLAIN };
        const EINVAL: u32 = libc::EINVAL.unsigned_abs();
        assert_eq!(judge(EINVAL, batch, &mut limits), SendOutcome::Alone);
        assert_eq!(limits.chunk(1400, 40), 40);
        let single = Attempt { enveloped: true, refused: 40, ..PLAIN };
        assert_eq!(judge(EINVAL, single, &mut limits), SendOutcome::FailedLikeAll);
        assert_eq!(limits.chunk(1400, 40), 40);
        limits.accept(single.refused);
        assert_eq!(limits.chunk(1400, 40), 20);
    }
}
