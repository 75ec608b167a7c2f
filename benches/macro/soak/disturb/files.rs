//! App files that change: rewritten, broken and mended, added and removed.

use std::io;
use std::time::Duration;

use fastrand::Rng;
use tests::{App, DEADLINE, Response, Wire};

use super::Trouble;
use crate::soak::site::host;

/// From one change to the next.
const PAUSE: Duration = Duration::from_millis(250);
/// For a change to be in force, on a machine without an idle core and with a hand-over under way.
const IN_FORCE: Duration = DEADLINE.saturating_mul(2);
/// Apps beside those under load, at the same time.
const GUESTS: usize = 5;

/// What an editor or a script leaves behind now and then, for an app of this id.
const BROKEN: [fn(&str) -> String; 4] = [
    |_| String::new(),
    |id| format!("id = \"{id}"),
    |id| format!("id = \"{id}\"\nno_such_key = 1\n"),
    |_| "\0\u{1}\u{2}".to_owned(),
];

pub fn run(trouble: &Trouble, rng: &mut Rng) {
    let mut guests: Vec<String> = Vec::new();
    for round in 0_u64.. {
        if !trouble.pause(rng, PAUSE) {
            break;
        }
        let changed = match rng.u8(..8) {
            0 => add(trouble, &mut guests, round),
            1 => remove(trouble, rng, &mut guests),
            2 => break_and_mend(trouble, rng),
            _ => rewrite(trouble, rng),
        };
        if let Err(error) = changed {
            trouble.journal.broken(format!("cannot change a file: {error:#}"));
        }
    }
}

fn rewrite(trouble: &Trouble, rng: &mut Rng) -> anyhow::Result<()> {
    let mortal = &trouble.site.mortals[rng.usize(..trouble.site.mortals.len())];
    trouble.journal.event("app rewritten");
    trouble.addresses.save_app(&trouble.site.app(mortal, rng.u16(..100)))
}

/// Its last good state stays in force meanwhile.
fn break_and_mend(trouble: &Trouble, rng: &mut Rng) -> anyhow::Result<()> {
    // A process that begins while a file is broken gives up, as it should.
    let Ok(_whole) = trouble.whole.try_lock() else { return rewrite(trouble, rng) };
    let mortal = &trouble.site.mortals[rng.usize(..trouble.site.mortals.len())];
    let broken = BROKEN[rng.usize(..BROKEN.len())](mortal.id);
    trouble.addresses.save(&format!("apps/{}.toml", mortal.id), &broken)?;
    trouble.journal.event("app broken and mended");
    trouble.pause(rng, PAUSE);
    trouble.addresses.save_app(&trouble.site.app(mortal, rng.u16(..100)))
}

fn add(trouble: &Trouble, guests: &mut Vec<String>, round: u64) -> anyhow::Result<()> {
    if guests.len() == GUESTS {
        return Ok(());
    }
    let id = format!("guest{round}");
    let idle = "timeouts = { upstream_idle = \"5s\" }";
    let app = App::new(&id).host(&host(&id)).line(idle).endpoint("v1", "c1", trouble.site.steady.address());
    trouble.addresses.save_app(&app)?;
    trouble.journal.event("app added");
    trouble.expect(IN_FORCE, &format!("{id} answers"), || status(trouble, &id).is_ok_and(|is| is == 200));
    guests.push(id);
    Ok(())
}

fn remove(trouble: &Trouble, rng: &mut Rng, guests: &mut Vec<String>) -> anyhow::Result<()> {
    if guests.is_empty() {
        return Ok(());
    }
    let id = guests.swap_remove(rng.usize(..guests.len()));
    trouble.addresses.remove_app(&id)?;
    trouble.journal.event("app removed");
    trouble.expect(IN_FORCE, &format!("{id} is gone"), || status(trouble, &id).is_ok_and(|is| is == 404));
    Ok(())
}

fn status(trouble: &Trouble, app: &str) -> io::Result<u16> {
    let mut wire = Wire::connect(trouble.addresses.web, DEADLINE)?;
    wire.send(format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(app)).as_bytes())?;
    Ok(Response::read(&mut wire, "GET")?.status)
}
