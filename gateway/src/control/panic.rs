//! Says when an app begins and ceases to use all of its endpoints, or its backups beside the others, because too few are
//! healthy.

use topology::AppId;

use crate::table::{Level, Stage, Strength};
use crate::worker::Shared;

/// To be called whenever the health of one of the app's endpoints, or who they are, may have changed, and before
/// workers are told. Probes and the control plane look from threads of their own: one after the other, each at the table in force
/// by then, so that the last word is of the last state.
pub fn look(shared: &Shared, app: &AppId) {
    let Some(live) = shared.table.load().app(app).map(|app| app.live.clone()) else { return };
    let _turn = live.looking();
    let table = shared.table.load();
    let Some(app) = table.app(app) else { return };
    let (strength, stage) = (app.strength(), app.stage());
    let former = app.live.note_stage(stage);
    if former == stage {
        return;
    }
    let Strength { primaries: Level { healthy, of }, backups } = strength;
    let (app, threshold) = (&app.id, app.panic_threshold());
    let (backups_healthy, backups_of) = (backups.healthy, backups.of);
    match (former, stage) {
        (_, Stage::Panic) => {
            tracing::warn!(target: "sluice::health", %app, healthy, of, backups_healthy, backups_of, threshold, "panic: all endpoints are used");
        }
        (_, Stage::Helped) => {
            tracing::warn!(target: "sluice::health", %app, healthy, of, backups_healthy, backups_of, threshold, "too few are healthy: backups are used beside them");
        }
        (Stage::Panic, Stage::Usual) => {
            tracing::info!(target: "sluice::health", %app, healthy, of, threshold, "panic is over");
        }
        (_, Stage::Usual) => {
            tracing::info!(target: "sluice::health", %app, healthy, of, threshold, "enough are healthy: backups are spared");
        }
    }
}
