//! A profile as a Chrome trace, which Perfetto and `chrome://tracing` open: launches, layers and memory over time.

use serde_json::{Value, json};

use super::profile::{LaunchProfile, Profile};

/// Rows of the trace.
const LAUNCHES: u32 = 1;
const LAYERS: u32 = 2;

impl Profile {
    /// The profile as a trace (Trace Event Format); times are microseconds.
    pub fn trace(&self) -> Value {
        let title = format!("{}, batch {}, {}", self.subject, self.batch, self.precision);
        let named = |row: u32, name: &str| json!({"ph": "M", "pid": 1, "tid": row, "name": "thread_name", "args": {"name": name}});
        let mut events = vec![
            json!({"ph": "M", "pid": 1, "name": "process_name",
                   "args": {"name": format!("{title}, {} for {}", self.method, self.gpu)}}),
            named(LAUNCHES, "launches"),
            named(LAYERS, "layers"),
        ];
        let mut at = 0.0;
        let mut layer: Option<(&str, f64)> = None;
        for launch in &self.launches {
            let name = layer_of(launch);
            if layer.is_none_or(|(before, _)| before != name) {
                events.extend(layer.map(|(before, start)| span(LAYERS, before, start, at)));
                layer = Some((name, at));
            }
            let end = at + 1e6 * launch.seconds;
            let mut event = span(LAUNCHES, &launch.kernel, at, end);
            event["args"] = json!({
                "layer": launch.layer,
                "op": launch.op,
                "grid": launch.grid,
                "threads": launch.threads,
                "bound": launch.bound,
                "saved_us": 1e6 * launch.saved_seconds,
                "flops": launch.flops,
                "dram_bytes": launch.dram_bytes,
            });
            events.push(event);
            events.push(json!({"ph": "C", "pid": 1, "name": "activations", "ts": at,
                               "args": {"bytes": launch.live_bytes}}));
            at = end + 1e6 * self.gap_seconds;
        }
        events.extend(layer.map(|(before, start)| span(LAYERS, before, start, at)));
        json!({"displayTimeUnit": "ns", "traceEvents": events})
    }
}

/// The block of the model that the launch belongs to, such as `in_blocks.3.0`.
fn layer_of(launch: &LaunchProfile) -> &str {
    let layer = launch.layer.as_str();
    let end = layer.find(".block_seq").unwrap_or(layer.len());
    match &layer[..end] {
        "" => &launch.op,
        block => block,
    }
}

fn span(row: u32, name: &str, start: f64, end: f64) -> Value {
    json!({"ph": "X", "pid": 1, "tid": row, "name": name, "ts": start, "dur": end - start})
}
