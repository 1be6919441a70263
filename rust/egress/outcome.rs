//! What the kernel's answer to a send means for its datagrams (udp(7), ip(7)).
//! It must not know sockets.

use super::limits::Limits;
use crate::stats::Loss;

/// What became of the datagrams of one send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The kernel took them.
    Sent { bytes: u32 },
    /// To be sent again: in smaller portions, or (`repeated`) once more as they are.
    Again { repeated: bool },
    /// Lost for a reason of its own.
    Lost(Loss),
    /// Lost as `send_error`.
    Failed { errno: u32 },
}

/// Judges the result of sending `datagrams` of `segment` bytes, and learns from it.
/// `repeated` says that this was the second attempt after an error of an earlier datagram.
pub(super) fn judge(
    result: i32,
    datagrams: u32,
    segment: u32,
    repeated: bool,
    limits: &mut Limits,
) -> Outcome {
    if let Ok(bytes) = u32::try_from(result) {
        limits.accept();
        return Outcome::Sent { bytes };
    }
    let errno = -result;
    match errno {
        // ENOBUFS is the queueing discipline, reported because of IP_RECVERR.
        libc::EAGAIN | libc::ENOBUFS => Outcome::Lost(Loss::OutputFull),
        libc::EMSGSIZE if datagrams > 1 => {
            limits.refuse_size(segment);
            Outcome::Again { repeated }
        }
        libc::EINVAL if datagrams > 1 => {
            limits.refuse_count(datagrams);
            Outcome::Again { repeated }
        }
        libc::EIO | libc::EOPNOTSUPP if datagrams > 1 => {
            limits.refuse_segments();
            Outcome::Again { repeated }
        }
        _ if !repeated && is_answer_to_an_earlier_datagram(errno) => {
            Outcome::Again { repeated: true }
        }
        libc::EMSGSIZE => Outcome::Lost(Loss::TooBig),
        _ => Outcome::Failed { errno: errno.unsigned_abs() },
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

    fn judge_fresh(result: i32, datagrams: u32, repeated: bool) -> (Outcome, Limits) {
        let mut limits = Limits::default();
        limits.start(1472);
        (judge(result, datagrams, 1400, repeated, &mut limits), limits)
    }

    #[test]
    fn a_refused_batch_is_split_and_the_refusal_remembered() {
        for (errno, chunk) in [(libc::EMSGSIZE, 1), (libc::EINVAL, 20), (libc::EIO, 1)] {
            let (outcome, limits) = judge_fresh(-errno, 40, false);
            assert_eq!(outcome, Outcome::Again { repeated: false });
            assert_eq!(limits.chunk(1400, 40), chunk);
        }
    }

    #[test]
    fn an_answer_to_an_earlier_datagram_costs_nothing_once() {
        let (first, _) = judge_fresh(-libc::ECONNREFUSED, 5, false);
        assert_eq!(first, Outcome::Again { repeated: true });
        let (second, _) = judge_fresh(-libc::ECONNREFUSED, 5, true);
        assert_eq!(second, Outcome::Failed { errno: 111 });
    }

    #[test]
    fn full_and_too_big_have_reasons_of_their_own() {
        assert_eq!(judge_fresh(-libc::EAGAIN, 3, false).0, Outcome::Lost(Loss::OutputFull));
        assert_eq!(judge_fresh(-libc::ENOBUFS, 3, false).0, Outcome::Lost(Loss::OutputFull));
        assert_eq!(judge_fresh(-libc::EMSGSIZE, 1, true).0, Outcome::Lost(Loss::TooBig));
        assert_eq!(judge_fresh(-libc::EPERM, 1, false).0, Outcome::Failed { errno: 1 });
    }
}
