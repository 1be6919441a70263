//! Flows as dictionaries, with what is known of the numbers in the datagrams of flows.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::reports::set_rates;
use crate::relay::{FlowReport, sequence_gaps};
use crate::stats::sequences::{self, Basis, Format, GAP_BUCKETS, SequenceWords, word};

/// A flow as a dictionary.
pub(super) fn flow_dict<'py>(py: Python<'py>, flow: &FlowReport) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("rule", &flow.rule)?;
    fields.set_item("source", flow.source.to_string())?;
    fields.set_item("source_port", flow.source_port)?;
    fields.set_item("group", flow.group.to_string())?;
    fields.set_item("port", flow.port)?;
    fields.set_item("datagrams", flow.datagrams)?;
    fields.set_item("bytes", flow.bytes)?;
    set_rates(&fields, flow.rates)?;
    let [first_ms, last_ms] = flow.age_ms;
    fields.set_item("first_seen_age_ms", first_ms)?;
    fields.set_item("last_seen_age_ms", last_ms)?;
    let [least, most] = flow.ttls;
    fields.set_item("ttl_min", least)?;
    fields.set_item("ttl_max", most)?;
    let dscps: Vec<u16> = flow.dscps.iter().map(|&dscp| dscp.into()).collect();
    fields.set_item("dscps", dscps)?;
    fields.set_item("sequence", sequence_dict(py, &flow.numbers)?)?;
    Ok(fields)
}

/// A flow in which numbers are missing: its rule, sender, group and ports, and how many.
pub(super) type ListedGaps = (String, String, u16, String, u16, u64);

/// The flows in which numbers are missing.
pub(super) fn listed_gaps(flows: &[FlowReport]) -> Vec<ListedGaps> {
    let listed = |(flow, lost): (&FlowReport, u64)| {
        let (source, group) = (flow.source.to_string(), flow.group.to_string());
        (flow.rule.clone(), source, flow.source_port, group, flow.port, lost)
    };
    sequence_gaps(flows).map(listed).collect()
}

/// What is known of the numbers in a flow's datagrams; None where they are not read.
pub(super) fn sequence_dict<'py>(
    py: Python<'py>,
    words: &SequenceWords,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    if words.iter().all(|word| *word == 0) {
        return Ok(None);
    }
    let fields = PyDict::new(py);
    let basis = Basis::of(words);
    let names = Format::names(words[word::FORMAT]).filter(|_| basis != Basis::Undecided);
    fields.set_item("format", names.map(|(format, _)| format))?;
    fields.set_item("unit", names.map(|(_, unit)| unit))?;
    fields.set_item("basis", basis.name())?;
    let counts = [
        ("numbered", word::NUMBERED),
        ("unfit", word::UNFIT),
        ("lost", word::LOST),
        ("duplicated", word::DUPLICATED),
        ("reordered", word::REORDERED),
        ("gaps", word::GAPS),
        ("largest_gap", word::LARGEST_GAP),
        ("resets", word::RESETS),
    ];
    for (name, at) in counts {
        fields.set_item(name, if names.is_some() { words[at] } else { 0 })?;
    }
    let flag = |bit| names.is_some() && words[word::FORMAT] & bit != 0;
    let ts_lost = flag(sequences::TS_IN_RTP).then_some(words[word::TS_LOST]);
    fields.set_item("ts_lost", ts_lost)?;
    let is_rtp = names.is_some_and(|(format, _)| format == "rtp");
    let payload_type = is_rtp.then_some(words[word::FORMAT] >> 16 & 0x7f);
    fields.set_item("payload_type", payload_type)?;
    fields.set_item("jitter_us", (words[word::JITTER] >> 4) as f64 / 1e3)?;
    let has_timestamps = flag(sequences::JITTER_OF_TIMESTAMPS);
    fields.set_item("jitter_of", if has_timestamps { "timestamps" } else { "arrivals" })?;
    let buckets = (0..GAP_BUCKETS).map(|at| (at, sequences::gap_count(words, at)));
    let filled = buckets.filter(|(_, count)| *count > 0);
    let arrivals: Vec<(Option<f64>, u64)> =
        filled.map(|(at, count)| (sequences::bucket_end_us(at), count)).collect();
    fields.set_item("arrivals", arrivals)?;
    Ok(Some(fields))
}
