//! The main thread of a worker, in a thread of the test process.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::super::channel::Channel;
use super::*;
use crate::relay::{Ingress, Settings};
use crate::sockets::testnet::in_namespace;
use crate::worker::mailbox::Mailbox;

/// A service, control's end of its connection, and its mailbox.
fn service() -> (Service, UnixStream, Arc<Mailbox>) {
    let relay = Arc::new(Relay::new(Settings::new(Ingress::Udp, 1 << 20)).unwrap());
    let mailbox = Arc::new(Mailbox::new().unwrap());
    let (own, _) = UnixStream::pair().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    mailbox.post_channel(near.into());
    let session = ControlSession::new(Channel::new(own.into()), mailbox.clone());
    (Service::new(relay, session, 0), far, mailbox)
}

fn frame(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [&length[..], text.as_bytes()].concat()
}

fn read_frame(far: &mut UnixStream) -> String {
    let mut length = [0; 4];
    far.read_exact(&mut length).unwrap();
    let mut text = vec![0; u32::from_le_bytes(length) as usize];
    far.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn the_end_of_the_engine_is_reported_and_ends_the_service() {
    in_namespace(|| {
        let (service, mut far, mailbox) = service();
        far.write_all(&frame(r#"{"id":9,"do":"abort"}"#)).unwrap();
        let thread = std::thread::spawn(move || service.run());
        assert_eq!(read_frame(&mut far), r#"{"id":9,"ok":{}}"#);
        mailbox.post_end("a panic".to_owned());
        assert_eq!(read_frame(&mut far), r#"{"event":"engine","error":"a panic"}"#);
        assert_eq!(thread.join().unwrap(), "a panic");
    });
}
