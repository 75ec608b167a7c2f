//! What operators say: list, move, drain, undrain; and a new process in the place of the old one.

use std::net::SocketAddr;

use tests::{Config, DEADLINE, eventually};

use crate::faults::judge;
use crate::lab::{Kind, Lab, OWN_PORT, name, vip};

#[test]
fn addresses_are_listed_moved_and_drained_by_command() {
    let Some(lab) = Lab::start(Kind::ZooKeeper(1), &[0], &[]) else { return };
    let first = lab.settled(0);
    lab.service.clear();
    lab.link.clear();
    lab.hear(20);
    let ip = vip(0).to_string();
    let listed = lab.sluice(first.by, &["vip", "list"]);
    assert!(listed.stdout.contains(&ip) && listed.stdout.contains("held here"), "{}", listed.text());

    // Only its holder hands it over, and only to somebody who is there.
    let (second, third) = ((first.by + 1) % 3, (first.by + 2) % 3);
    let refused = lab.sluice(second, &["vip", "move", &ip, &name(third)]);
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert!(refused.stderr.contains(&format!("ask {}", name(first.by))), "{}", refused.text());
    let nobody = lab.sluice(first.by, &["vip", "move", &ip, "gw-9"]);
    assert!(nobody.stderr.contains("gw-9 cannot take"), "{}", nobody.text());
    let moved = lab.sluice(first.by, &["vip", "move", &ip, &name(second)]);
    assert_eq!(moved.code, Some(0), "{}", moved.text());
    eventually(DEADLINE, "it holds", || lab.settled(0).by == second);
    assert_eq!(lab.get(vip(0)).as_deref(), Some(&*name(second)));

    let drained = lab.sluice(second, &["vip", "drain", "--wait"]);
    assert_eq!(drained.code, Some(0), "{}", drained.text());
    let now = lab.settled(0);
    assert_ne!(now.by, second);
    assert_eq!(lab.ask(second)["draining"], true);
    assert_eq!(lab.metric(second, "sluice_vip_draining", &[]), 1);
    let dropped = [("address", &*ip), ("reason", "drained")];
    assert_eq!(lab.metric(second, "sluice_vip_transitions_total", &dropped), 1);
    assert_eq!(lab.metric(now.by, "sluice_vip_holding", &[("address", &ip)]), 1);

    // With all others drained the last one stays.
    let other = 3 - second - now.by;
    assert_eq!(lab.sluice(other, &["vip", "drain"]).code, Some(0));
    let stays = lab.sluice(now.by, &["vip", "drain", "--wait=1"]);
    assert_eq!(stays.code, Some(3), "{}", stays.text());
    assert!(stays.stderr.contains(&ip), "{}", stays.text());
    assert_eq!(lab.settled(0).by, now.by);

    let back = lab.sluice(second, &["vip", "undrain"]);
    assert_eq!(back.code, Some(0), "{}", back.text());
    eventually(DEADLINE, "the drained one lets go when somebody can take it", || lab.settled(0).by == second);
    lab.hear(20);
    judge(&lab, "moves by command", first, lab.settled(0));
}

#[test]
fn a_process_that_takes_over_holds_after_the_former_one_has_let_go() {
    let Some(mut lab) = Lab::start_with(Kind::ZooKeeper(1), &[0], &[], |config| config.handover()) else {
        return;
    };
    let before = lab.settled(0);
    lab.service.clear();
    lab.link.clear();
    lab.hear(20);
    let former = lab.hand_over(before.by);
    eventually(DEADLINE, "somebody else holds", || lab.settled(0).epoch > before.epoch);
    // The newer process takes part under the same name; when the former one and what it left ends, nothing moves.
    let settled = lab.settled(0);
    let ip = vip(0).to_string();
    if settled.by != before.by {
        let moved = lab.sluice(settled.by, &["vip", "move", &ip, &name(before.by)]);
        assert_eq!(moved.code, Some(0), "{}", moved.text());
        eventually(DEADLINE, "the newer process holds", || lab.settled(0).by == before.by);
    }
    let held = lab.settled(0);
    drop(former);
    lab.hear(100);
    assert_eq!(lab.settled(0), held);
    judge(&lab, "a hand-over", before, held);
}

#[test]
fn an_apps_own_port_at_an_address_of_the_pool_moves_with_it() {
    let lines = ["pool = [\"10.88.0.240/31\"]"];
    let given = |config: Config| config.gateway("app_ports = { addresses = [\"10.88.0.240/31\"] }");
    let Some(mut lab) = Lab::start_with(Kind::ZooKeeper(1), &[0], &lines, given) else { return };
    let address: SocketAddr = OWN_PORT.parse().expect("an address");
    let first = lab.settled_at(address.ip());
    assert_eq!(lab.get_at(address).as_deref(), Some(&*name(first.by)));
    let next = (first.by + 1) % 3;
    let moved = lab.sluice(first.by, &["vip", "move", &address.ip().to_string(), &name(next)]);
    assert_eq!(moved.code, Some(0), "{}", moved.text());
    eventually(DEADLINE, "it holds", || lab.settled_at(address.ip()).by == next);
    assert_eq!(lab.get_at(address).as_deref(), Some(&*name(next)));
    // It listened there before it held it, and so does whoever comes after it.
    lab.kill(next);
    eventually(DEADLINE, "somebody else answers", || {
        lab.get_at(address).is_some_and(|who| who != name(next))
    });
}
