//! Sockets that their owner may have to return to the provider that opened them.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::sockets::closer::Closer;

/// A descriptor that this process uses, and may have to return to its provider.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    lease: Option<Lease>,
    closer: Option<Closer>,
}

/// A socket that only has to exist, in this process or in another one.
#[derive(Debug)]
pub struct HelperSocket {
    what: HelperLocation,
}

#[derive(Debug)]
enum HelperLocation {
    Here { fd: OwnedFd },
    There { lease: Lease },
}

impl HelperSocket {
    /// The socket, if it is open in this process.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.what {
            HelperLocation::Here { fd } => Some(fd.as_fd()),
            HelperLocation::There { .. } => None,
        }
    }

    /// The number of its lease, if it is open in another process.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        match &self.what {
            HelperLocation::Here { .. } => None,
            HelperLocation::There { lease } => Some(lease.id),
        }
    }
}

/// The right to something that another process holds for this one; returned when dropped.
pub struct Lease {
    id: u64,
    lender: Arc<dyn Lender>,
}

/// The issuer of leases.
pub trait Lender: Send + Sync {
    /// Takes a lease back. It must neither block nor fail: any thread may drop one.
    fn return_lease(&self, id: u64);
}

impl Socket {
    /// Wraps a descriptor together with its lease.
    #[must_use]
    pub fn leased(fd: OwnedFd, lease: Lease) -> Self {
        Self { fd, lease: Some(lease), closer: None }
    }

    /// Wraps a descriptor that takes the kernel long to close.
    #[must_use]
    pub fn closed_by(fd: OwnedFd, closer: Closer) -> Self {
        Self { fd, lease: None, closer: Some(closer) }
    }

    /// The number of its lease, if it has one.
    #[must_use]
    pub fn lease(&self) -> Option<u64> {
        self.lease.as_ref().map(|lease| lease.id)
    }
}

impl Drop for Socket {
    /// The last close waits for the kernel, so a `Closer` thread does it.
    fn drop(&mut self) {
        if let Some(closer) = &self.closer
            && let Ok(last) = self.fd.try_clone()
        {
            closer.close(last);
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self { fd, lease: None, closer: None }
    }
}

impl AsFd for Socket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for HelperSocket {
    fn from(fd: OwnedFd) -> Self {
        Self { what: HelperLocation::Here { fd } }
    }
}

impl From<Lease> for HelperSocket {
    fn from(lease: Lease) -> Self {
        Self { what: HelperLocation::There { lease } }
    }
}

impl Lease {
    /// Creates the lease that `lender` identifies by this number.
    #[must_use]
    pub fn new(id: u64, lender: Arc<dyn Lender>) -> Self {
        Self { id, lender }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.id)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.lender.return_lease(self.id);
    }
}
