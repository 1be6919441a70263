//! Any datagrams of a flow, merged by the kernel or not: their numbers are followed.
#![no_main]

use _native::stats::sequences::{Sequence, SequenceSpec, WORDS, merge};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Spec {
    Auto,
    None,
    Rtp { clock_hz: u32 },
    Ts,
    Mold,
    Mcr,
    Field { offset: u16, bits: u8, little_endian: bool },
}

#[derive(Arbitrary, Debug)]
struct Flow<'a> {
    spec: Spec,
    frames: Vec<(u16, u32, &'a [u8])>,
}

fuzz_target!(|flow: Flow<'_>| {
    let spec = match flow.spec {
        Spec::Auto => SequenceSpec::Auto,
        Spec::None => SequenceSpec::None,
        Spec::Rtp { clock_hz } => SequenceSpec::Rtp { clock_hz },
        Spec::Ts => SequenceSpec::Ts,
        Spec::Mold => SequenceSpec::Mold,
        Spec::Mcr => SequenceSpec::Mcr,
        Spec::Field { offset, bits, little_endian } => {
            SequenceSpec::Field { offset, bits, little_endian }
        }
    };
    if !spec.is_valid() {
        return;
    }
    let mut sequence = Sequence::default();
    sequence.tell(spec);
    let mut now_ns = 0;
    for (segment, pause_ns, payload) in flow.frames {
        now_ns += u64::from(pause_ns);
        sequence.count(payload, segment.into(), now_ns);
        sequence.end_turn();
    }
    let mut sum = [0; WORDS];
    merge(&mut sum, sequence.words());
});
