//! What only this gateway can say of a value: as far as `sluice check` says it of files.

use std::sync::Arc;

use discovery::change::{EntryKey, Judge, Parsed, Verdict};
use topology::{App, HostPattern};

use crate::filter;
use crate::listener::tls;
use crate::table::compile::{Settings, endpoint_tls};
use crate::worker::Shared;

pub struct GatewayJudge {
    pub settings: Settings,
    pub shared: Arc<Shared>,
}

impl Judge for GatewayJudge {
    fn judge(&self, entry: &EntryKey, parsed: &Parsed<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let (id, spec) = match parsed {
            Parsed::App(id, spec) => ((*id).clone(), spec.clone()),
            Parsed::Route(id, spec) => (id.clone(), spec.clone()),
            Parsed::Certificate(_, pem) => {
                match tls::inspect_pem(pem) {
                    Err(why) => verdict.mistakes.push((String::new(), why)),
                    Ok(complaint) => verdict.warnings.extend(complaint.map(|why| format!("{entry}: {why}"))),
                }
                return verdict;
            }
            Parsed::Other => return verdict,
        };
        let app = App { id, spec, endpoints: Vec::new(), claimed: 0 };
        self.judge_app(entry, &app, &mut verdict);
        verdict
    }
}

impl GatewayJudge {
    fn judge_app(&self, entry: &EntryKey, app: &App, verdict: &mut Verdict) {
        if let Some(filters) = &app.spec.filters {
            let problems = filter::inspect(&app.id, filters, &self.settings.sources);
            verdict.mistakes.extend(problems.into_iter().map(|why| ("filters".to_owned(), why)));
        }
        if let Err(why) = endpoint_tls(&self.settings, app) {
            let (key, why) = why.split_once(": ").unwrap_or(("tls", &why));
            verdict.mistakes.push((key.to_owned(), why.to_owned()));
        }
        let table = self.shared.table.load();
        let from_file = table.snapshot.apps.get(&app.id).is_some_and(|known| known.claimed == 0);
        if from_file {
            verdict
                .warnings
                .push(format!("{entry}: a file of this gateway has this app, and its spec holds instead"));
        }
        for host in &app.spec.hosts {
            let claimed = table.routes_of(host).map(|routes| routes.apps()).unwrap_or_default();
            let is_shared =
                claimed.iter().any(|other| other.id != app.id && shares_path(&other.spec.paths, app));
            if is_shared && *host != HostPattern::Any {
                // Not by whom: tenants are told this.
                let message = format!(
                    "{entry}: host {host} is claimed by another app too, with the same path; the first one has it"
                );
                verdict.warnings.push(message);
            }
        }
    }
}

fn shares_path(paths: &[topology::PathMatch], app: &App) -> bool {
    paths.iter().any(|path| app.spec.paths.contains(path))
}
