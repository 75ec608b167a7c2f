//! Says when an app begins and ceases to use all of its endpoints because too few are healthy.

use crate::table::CompiledApp;

/// To be called whenever the health of one of the app's endpoints, or who they are, may have changed.
pub fn look(app: &CompiledApp) {
    let strength = app.strength();
    if !app.live.note_panic(strength.panics) {
        return;
    }
    let (app, healthy, of, threshold) = (&app.id, strength.healthy, strength.of, app.panic_threshold());
    if strength.panics {
        tracing::warn!(target: "sluice::health", %app, healthy, of, threshold, "panic: all endpoints are used");
    } else {
        tracing::info!(target: "sluice::health", %app, healthy, of, threshold, "panic is over");
    }
}
