//! The meaning of the kernel's error for the datagrams of a send (udp(7), ip(7)).

use super::limits::SendLimits;
use crate::stats::Loss;

/// The consequence for the datagrams of a failed send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// Send again: in smaller portions or, if `repeated`, once more unchanged.
    Retry { repeated: bool },
    /// Lost, with a loss reason of its own.
    Lost(Loss),
    /// Send again unchanged: the socket is being reconnected.
    Unconnected,
    /// Send again one by one: either their number or their control message is refused.
    RetryAlone,
    /// Lost as `send_error`.
    Failed,
    /// Lost as `send_error`, like the rest of the batch, which has the same control message.
    BatchFailed,
}

/// One send, as it was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) datagrams: u32,
    /// The size of each datagram in bytes.
    pub(super) segment: u32,
    /// Whether it repeated a send that failed with the error of an earlier datagram.
    pub(super) repeated: bool,
    /// Whether it carried a control message or headers of its own.
    pub(super) has_control: bool,
    /// The number of datagrams in the previous attempt if it ended in [`SendOutcome::RetryAlone`];
    /// else 0.
    pub(super) refused: u32,
}

/// Classifies a failed send, and learns from it.
pub(super) fn classify(errno: u32, attempt: Attempt, limits: &mut SendLimits) -> SendOutcome {
    let Attempt { datagrams, segment, repeated, has_control, refused } = attempt;
    match errno.cast_signed() {
        // ENOBUFS comes from the queueing discipline; it is reported because of IP_RECVERR.
        libc::EAGAIN | libc::ENOBUFS => SendOutcome::Lost(Loss::OutputFull),
        libc::EMSGSIZE if datagrams > 1 => {
            limits.refuse_size(segment);
            SendOutcome::Retry { repeated }
        }
        // Senders determine the content of some control messages, so an error in them must not
        // change the limits.
        libc::EINVAL if datagrams > 1 && has_control => SendOutcome::RetryAlone,
        libc::EINVAL if refused > 0 => SendOutcome::BatchFailed,
        libc::EINVAL if datagrams > 1 => {
            limits.refuse_count(datagrams);
            SendOutcome::Retry { repeated }
        }
        libc::EIO | libc::EOPNOTSUPP if datagrams > 1 => {
            limits.refuse_segments();
            SendOutcome::Retry { repeated }
        }
        libc::EDESTADDRREQ => SendOutcome::Unconnected,
        errno if !repeated && is_error_of_earlier_datagram(errno) => {
            limits.distrust();
            SendOutcome::Retry { repeated: true }
        }
        libc::EMSGSIZE => SendOutcome::Lost(Loss::TooBig),
        _ => SendOutcome::Failed,
    }
}

/// Errors from ICMP: a connected socket reports them on the next send, which is then not carried
/// out (udp(7), "Error handling"; RFC 1122, 4.1.3.3).
fn is_error_of_earlier_datagram(errno: i32) -> bool {
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
        Attempt { datagrams: 1, segment: 1400, repeated: false, has_control: false, refused: 0 };

    fn classify_fresh(errno: i32, datagrams: u32, repeated: bool) -> (SendOutcome, SendLimits) {
        let mut limits = SendLimits::default();
        limits.start(1472, None);
        let attempt = Attempt { datagrams, repeated, ..PLAIN };
        (classify(errno.unsigned_abs(), attempt, &mut limits), limits)
    }

    #[test]
    fn a_refused_batch_is_split_and_the_refusal_remembered() {
        for (errno, chunk) in [(libc::EMSGSIZE, 1), (libc::EINVAL, 20), (libc::EIO, 1)] {
            let (outcome, limits) = classify_fresh(errno, 40, false);
            assert_eq!(outcome, SendOutcome::Retry { repeated: false });
            assert_eq!(limits.chunk(1400, 40), chunk);
        }
    }

    #[test]
    fn an_error_of_an_earlier_datagram_is_retried_once() {
        let (first, _) = classify_fresh(libc::ECONNREFUSED, 5, false);
        assert_eq!(first, SendOutcome::Retry { repeated: true });
        let (second, _) = classify_fresh(libc::ECONNREFUSED, 5, true);
        assert_eq!(second, SendOutcome::Failed);
    }

    #[test]
    fn a_reconnecting_socket_is_retried() {
        assert_eq!(classify_fresh(libc::EDESTADDRREQ, 5, true).0, SendOutcome::Unconnected);
    }

    #[test]
    fn full_and_too_big_have_reasons_of_their_own() {
        assert_eq!(classify_fresh(libc::EAGAIN, 3, false).0, SendOutcome::Lost(Loss::OutputFull));
        assert_eq!(classify_fresh(libc::ENOBUFS, 3, false).0, SendOutcome::Lost(Loss::OutputFull));
        assert_eq!(classify_fresh(libc::EMSGSIZE, 1, true).0, SendOutcome::Lost(Loss::TooBig));
        assert_eq!(classify_fresh(libc::EPERM, 1, false).0, SendOutcome::Failed);
    }

    /// The header fields that one sender chooses must not slow down the copies of others.
    #[test]
    fn a_refused_control_message_changes_no_limits_and_a_refused_number_does() {
        let mut limits = SendLimits::default();
        limits.start(1472, None);
        let batch = Attempt { datagrams: 40, has_control: true, ..PLAIN };
        const EINVAL: u32 = libc::EINVAL.unsigned_abs();
        assert_eq!(classify(EINVAL, batch, &mut limits), SendOutcome::RetryAlone);
        assert_eq!(limits.chunk(1400, 40), 40);
        let single = Attempt { has_control: true, refused: 40, ..PLAIN };
        assert_eq!(classify(EINVAL, single, &mut limits), SendOutcome::BatchFailed);
        assert_eq!(limits.chunk(1400, 40), 40);
        limits.accept(single.refused, 1);
        assert_eq!(limits.chunk(1400, 40), 20);
    }
}
