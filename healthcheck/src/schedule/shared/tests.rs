use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use topology::{InstanceId, Protocol, VersionId};

use super::*;
use crate::HealthCell;
use crate::test_server::{Behaviour, PONG, TestServer, eventually};

const OOPS: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
const TARGETS: usize = 24;

fn app() -> AppId {
    AppId::parse("shop").unwrap()
}

fn targets(address: SocketAddr, path: &str) -> Vec<ProbeTarget> {
    let interval = Duration::from_millis(20);
    let settings = HealthSettings {
        path: path.into(),
        interval,
        unhealthy_interval: interval,
        timeout: Duration::from_secs(10),
        rise: 1,
        fall: 1,
        ..HealthSettings::default()
    };
    let settings = Arc::new(settings);
    let target = |number| ProbeTarget {
        app: app(),
        key: InstanceKey {
            version: VersionId::parse("v1").unwrap(),
            instance: InstanceId::parse(&format!("c{number}")).unwrap(),
        },
        address,
        protocol: Protocol::Http1,
        tls: None,
        settings: settings.clone(),
        may_be_shared: true,
        cell: Arc::new(HealthCell::new()),
    };
    (0..TARGETS).map(target).collect()
}

/// One gateway.
struct Member {
    name: &'static str,
    checker: Checker,
    targets: Vec<ProbeTarget>,
}

impl Member {
    fn new(name: &'static str, probers: usize, targets: Vec<ProbeTarget>) -> Self {
        let mut checker = Checker::with_seed(Arc::new(|_, _| {}), &CancellationToken::new(), 7);
        checker.share(name, probers);
        checker.reconcile(&app(), targets.clone());
        Self { name, checker, targets }
    }

    fn says(&mut self) -> Colleague {
        Colleague { name: self.name.into(), verdicts: self.checker.verdicts(), heard_at: Instant::now() }
    }

    fn hear(&mut self, others: Option<Vec<Colleague>>) {
        self.checker.hear(others);
        self.checker.look();
        while self.checker.is_behind() {
            self.checker.catch_up();
        }
    }

    /// Positions of those that it does not probe.
    fn heeded(&self) -> Vec<usize> {
        let heeds = |target: &ProbeTarget| !target.cell.report().heard_from.is_empty();
        (0..TARGETS).filter(|at| heeds(&self.targets[*at])).collect()
    }
}

/// Each hears what all others say.
fn talk(members: &mut [Member]) {
    let said: Vec<_> = members.iter_mut().map(Member::says).collect();
    for member in members {
        let others = said.iter().filter(|colleague| *colleague.name != *member.name).cloned();
        member.hear(Some(others.collect()));
    }
}

fn heeded(members: &[Member]) -> usize {
    members.iter().map(|member| member.heeded().len()).sum()
}

#[tokio::test]
async fn two_gateways_probe_half_each_and_know_everything() {
    let server = TestServer::answering(PONG).await;
    let mut members = ["a", "b"].map(|name| Member::new(name, 1, targets(server.address, "/_ping")));
    eventually("they share", || {
        talk(&mut members);
        heeded(&members) == TARGETS
    })
    .await;
    let [a, b] = &members;
    assert!(!a.heeded().is_empty() && !b.heeded().is_empty());
    assert!(a.heeded().iter().all(|at| !b.heeded().contains(at)));
    assert!(a.targets.iter().all(|target| target.cell.state() == State::Up));
    server.set(Behaviour::Answer(OOPS.to_owned()));
    eventually("both know that all are down", || {
        talk(&mut members);
        members.iter().flat_map(|member| &member.targets).all(|target| !target.cell.is_up())
    })
    .await;
    let report = members[0].targets[members[0].heeded()[0]].cell.report();
    assert_eq!(report.heard_from, ["b".into()]);
    let error = report.last_error.unwrap();
    assert_eq!((&*error.text, error.result), ("answered 500 Internal Server Error", None));
    let stats = members[0].checker.stats();
    assert_eq!(stats.sharing.received()[1].1, members[0].heeded().len() as u64);
    assert_eq!((stats.sharing.heeded(), stats.sharing.colleagues()), (members[0].heeded().len(), (1, 0)));
}

#[tokio::test]
async fn whoever_hears_nothing_probes_everything_after_a_while() {
    let server = TestServer::answering(PONG).await;
    let mut members = ["a", "b"].map(|name| Member::new(name, 1, targets(server.address, "/_ping")));
    eventually("they share", || {
        talk(&mut members);
        heeded(&members) == TARGETS
    })
    .await;
    let [a, _] = &mut members;
    let count = a.heeded().len();
    // Not at once: a registry that is back in a second has cost nothing.
    a.hear(None);
    assert_eq!(a.heeded().len(), count);
    eventually("it probes everything", || {
        a.hear(None);
        a.heeded().is_empty()
    })
    .await;
    assert_eq!(a.checker.stats().sharing.stale(), count as u64);
}

#[tokio::test]
async fn gateways_that_ask_other_questions_do_not_believe_each_other() {
    let server = TestServer::answering(PONG).await;
    let mut members = [
        Member::new("a", 1, targets(server.address, "/_ping")),
        Member::new("b", 1, targets(server.address, "/other")),
    ];
    let are_probed = |members: &[Member]| {
        members.iter().flat_map(|member| &member.targets).all(|target| target.cell.is_probed())
    };
    eventually("all are probed", || are_probed(&members)).await;
    (0..3).for_each(|_| talk(&mut members));
    assert_eq!(heeded(&members), 0);
}

#[tokio::test]
async fn a_target_that_goes_is_said_nothing_of_and_one_with_a_new_address_is_probed_first() {
    let server = TestServer::answering(PONG).await;
    let mut members = ["a", "b"].map(|name| Member::new(name, 1, targets(server.address, "/_ping")));
    eventually("they share", || {
        talk(&mut members);
        heeded(&members) == TARGETS
    })
    .await;
    let elsewhere = TestServer::answering(OOPS).await;
    let [a, _] = &mut members;
    let (gone, moved) = (a.heeded()[0], a.heeded()[1]);
    a.targets[moved].address = elsewhere.address;
    let left: Vec<_> = (0..TARGETS).filter(|at| *at != gone).map(|at| a.targets[at].clone()).collect();
    a.checker.reconcile(&app(), left);
    assert_eq!(a.targets[gone].cell.state(), State::Unknown);
    eventually("it is down by its own probe", || a.targets[moved].cell.state() == State::Down).await;
    // The other still says that it is up, at the address that it had.
    talk(&mut members);
    assert!(!members[0].targets[moved].cell.is_up() && !members[0].heeded().contains(&moved));
}
