//! The compiled rule table: which rules take a datagram.
