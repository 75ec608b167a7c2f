//! What is left when the gateway's process ends, stops or may not do what it has to.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::{DEADLINE, Program, eventually, finish};

use crate::prober::{Prober, echo};
use crate::{Lab, VIP4, VIP6, vip4, vip6, vips};

const HOLDER: &str = env!("CARGO_BIN_EXE_vip_holder");
/// So long that only the guard can be who closes the fence.
const FOR_EVER: &str = "600000";

fn holder(lab: &Lab, lease: &str) -> (Program, Pid) {
    let mut program = Program::start(lab.gateway.command(HOLDER).args(["hold", lease, VIP4, VIP6]));
    let guard = program.wait_for_line("it holds", |line| line.parse().ok().and_then(Pid::from_raw));
    (program, guard)
}

/// Traffic and resolution of both addresses, all of which pass.
fn passing(lab: &Lab) -> Vec<Prober> {
    let probers: Vec<_> = vips()
        .into_iter()
        .flat_map(|ip| {
            [Prober::resolving(&lab.client, ip), Prober::asking(&lab.client, echo(&lab.gateway, ip))]
        })
        .collect();
    for prober in &probers {
        eventually(DEADLINE, "it passes", || prober.count() > 10);
    }
    probers
}

fn ended(guard: Pid) -> bool {
    // A number that was given to somebody else since would only make a test wait.
    rustix::process::test_kill_process(guard).is_err()
}

#[test]
fn a_killed_gateway_leaves_no_address_and_a_closed_fence() {
    let Some(lab) = Lab::new() else { return };
    let (mut program, guard) = holder(&lab, FOR_EVER);
    let probers = passing(&lab);
    // Who stops a service stops all of its processes.
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(guard, signal).unwrap();
    }
    program.signal(Signal::KILL);
    let killed = Instant::now();
    eventually(DEADLINE, "the addresses are gone", || !lab.gateway.has(vip4()) && !lab.gateway.has(vip6()));
    eventually(DEADLINE, "the guard has ended", || ended(guard));
    let last = probers.iter().filter_map(Prober::last).max().unwrap();
    println!("the last answer came {:?} after SIGKILL", last.saturating_duration_since(killed));
    // The fence as well: with the address put back, nobody answers.
    let counts: Vec<_> = probers.iter().map(Prober::count).collect();
    lab.gateway.ip(&format!("address add {VIP4}/32 dev eth0"));
    lab.gateway.ip(&format!("address add {VIP6}/128 dev eth0 nodad"));
    let own = Prober::asking(&lab.client, echo(&lab.gateway, "10.77.0.1".parse().unwrap()));
    eventually(DEADLINE, "the gateway's own address answers", || own.count() > 200);
    assert_eq!(probers.iter().map(Prober::count).collect::<Vec<_>>(), counts);
    program.kill();
}

#[test]
fn a_stopped_gateway_is_fenced_off_and_comes_back() {
    let Some(lab) = Lab::new() else { return };
    let (program, guard) = holder(&lab, "300");
    let probers = passing(&lab);
    program.signal(Signal::STOP);
    let stopped = Instant::now();
    let last = || probers.iter().filter_map(Prober::last).max().unwrap();
    eventually(DEADLINE, "it is fenced off", || last().elapsed() > Duration::from_millis(500));
    println!("the last answer came {:?} after SIGSTOP", last().saturating_duration_since(stopped));
    // The guard watches for its end, not for its health.
    assert!(!ended(guard) && lab.gateway.has(vip4()));
    program.signal(Signal::CONT);
    let counts: Vec<_> = probers.iter().map(Prober::count).collect();
    for (prober, before) in probers.iter().zip(counts) {
        eventually(DEADLINE, "it answers again", || prober.count() > before);
    }
}

#[test]
fn a_dismissed_guard_leaves_everything_to_the_next_process() {
    let Some(lab) = Lab::new() else { return };
    let (mut program, guard) = holder(&lab, FOR_EVER);
    program.say("dismiss");
    eventually(DEADLINE, "both have ended", || program.exited().is_some() && ended(guard));
    assert!(lab.gateway.has(vip4()) && lab.gateway.has(vip6()));
    assert_eq!(passing(&lab).len(), 4);
}

#[test]
fn a_guard_without_a_process_to_watch_says_so_and_touches_nothing() {
    let Some(lab) = Lab::new() else { return };
    lab.gateway.ip(&format!("address add {VIP4}/32 dev eth0"));
    let finished = finish(lab.gateway.command(HOLDER).args(["guard", VIP4]), "", DEADLINE);
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("the guard is started by the gateway"), "{}", finished.stderr);
    assert!(lab.gateway.has(vip4()));
}

#[test]
fn what_the_process_may_not_do_is_named_with_the_fix() {
    let Some(lab) = Lab::new() else { return };
    let check = |bounds: &str| {
        // Root without them, as a service with such a CapabilityBoundingSet is.
        let mut command: Command = lab.gateway.command("setpriv");
        command.args(["--bounding-set", bounds, HOLDER, "check"]);
        let finished = finish(&mut command, "", DEADLINE);
        assert_eq!(finished.code, Some(0), "{}", finished.text());
        finished.stdout
    };
    assert_eq!(
        check("-net_raw"),
        format!("CAP_NET_RAW\n{}\n", lacks("opening a packet socket on the interface", "CAP_NET_RAW"))
    );
    let expected = [
        "CAP_NET_ADMIN".to_owned(),
        lacks("setting up the nftables fence", "CAP_NET_ADMIN"),
        lacks("putting a virtual IP on the interface", "CAP_NET_ADMIN"),
    ];
    assert_eq!(check("-net_admin"), expected.join("\n") + "\n");
    assert_eq!(check("-sys_admin"), "");
}

fn lacks(doing: &str, capability: &str) -> String {
    let file = capability.to_lowercase();
    format!(
        "{doing} needs {capability}: give it to the service (AmbientCapabilities={capability} and \
         CapabilityBoundingSet={capability} in its systemd unit) or to the binary (setcap {file}+ep), or start it as root"
    )
}
