#!/usr/bin/env bash
# sdp-rs 0.2.1 (crates.io) writes the channels of an audio stream behind a space: what it read as
# "L24/48000/8" comes out as "L24/48000 8". Its own reader does not take that line any more, and one
# that stops at the space has a stream of one channel, which is what no number means. A tool that
# passes a description on, or changes the group in it, breaks each stereo or AES67 stream in this
# way; the package reads the right form and has the number in its structure.
# RFC 8866, section 6.6: a=rtpmap:<payload type> <encoding name>/<clock rate>[/<encoding
# parameters>]; the parameter of audio is the number of channels, which may be left out if it is
# one.
# Exit 0: still so. Exit 1: the behaviour has changed. Needs Rust and crates.io.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "channels-behind-a-space"
version = "0.0.0"
edition = "2021"

[dependencies]
sdp-rs = "=0.2.1"
TOML
cat >src/main.rs <<'RUST'
use sdp_rs::{lines::Attribute, SessionDescription};
use std::convert::TryFrom;

fn describe(map: &str) -> String {
    [
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.1",
        "s=stage box",
        "c=IN IP4 239.1.1.1/32",
        "t=0 0",
        "m=audio 5004 RTP/AVP 98",
        map,
        "a=ptime:1",
        "",
    ]
    .join("\r\n")
}

/// The line of the map after reading and writing, and the channels that were read from `map`.
fn pass_on(map: &str) -> Option<(String, Option<i32>)> {
    let read = SessionDescription::try_from(describe(map).as_str()).ok()?;
    let channels = read.media_descriptions[0].attributes.iter().find_map(|one| match one {
        Attribute::Rtpmap(found) => Some(found.encoding_params),
        _ => None,
    })?;
    let written = read.to_string();
    let line = written.lines().find(|line| line.starts_with("a=rtpmap"))?;
    Some((line.to_string(), channels))
}

fn main() {
    let mono = pass_on("a=rtpmap:98 L24/48000");
    let eight = pass_on("a=rtpmap:98 L24/48000/8");
    println!("one channel:    {mono:?}");
    println!("eight channels: {eight:?}");
    let again = eight.as_ref().and_then(|(line, _)| pass_on(line));
    println!("the latter read again: {again:?}");
    let is_so = mono == Some(("a=rtpmap:98 L24/48000".into(), None))
        && eight == Some(("a=rtpmap:98 L24/48000 8".into(), Some(8)))
        && again.is_none();
    std::process::exit(i32::from(!is_so));
}
RUST
nice cargo run --quiet
