//! What filters did beside letting pass and refusing.

use prometheus::proto::MetricFamily;
use topology::filters::Coding;

use super::families::Family;
use crate::filter::MirrorCells;
use crate::table::RoutingTable;

pub(super) fn collect(table: &RoutingTable, families: &mut Vec<MetricFamily>) {
    let mut responses =
        Family::counter("sluice_compressed_responses_total", "Responses whose bodies were coded.");
    let mut bytes = Family::counter(
        "sluice_compression_bytes_total",
        "Bytes of bodies before (in) and after (out) they were coded.",
    );
    let mut crowded = Family::counter(
        "sluice_compression_skipped_total",
        "Responses that went out as they came because encoders held all the memory that they may.",
    );
    let mut copies = Family::counter(
        "sluice_mirrored_requests_total",
        "Copies of requests: answered, failed, or skipped since too many were on their way or their bodies too long.",
    );
    for app in table.apps.values() {
        let name = ("app", app.id.as_str());
        let Some(filters) = &app.filters else { continue };
        if let Some(compression) = filters.compression() {
            for coding in Coding::ALL {
                let totals = compression.metrics.totals(coding);
                if totals.responses > 0 {
                    let labels = [name, ("coding", coding.as_str())];
                    responses.sample(&labels, totals.responses as f64);
                    bytes.sample(&[labels[0], labels[1], ("direction", "in")], totals.taken as f64);
                    bytes.sample(&[labels[0], labels[1], ("direction", "out")], totals.given as f64);
                }
            }
            crowded.sample(&[name], compression.metrics.crowded() as f64);
        }
        if let Some(mirror) = filters.mirror() {
            type Cell = fn(&MirrorCells) -> &super::Counter;
            let results: [(&str, Cell); 3] = [
                ("answered", |cells| &cells.answered),
                ("failed", |cells| &cells.failed),
                ("skipped", |cells| &cells.skipped),
            ];
            for (result, cell) in results {
                copies.sample(&[name, ("result", result)], mirror.metrics.total(cell) as f64);
            }
        }
    }
    families.extend([responses, bytes, crowded, copies].into_iter().filter_map(Family::finish));
}
