use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use topology::{InstanceId, Protocol, VersionId};

use super::*;
use crate::Bounds;
use crate::HealthCell;
use crate::test_server::{Behaviour, PONG, TestServer, eventually};

const OOPS: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
const TARGETS: usize = 24;

fn app() -> AppId {
    AppId::parse("shop").unwrap()
}

fn targets(address: SocketAddr, path: &str) -> Vec<ProbeTarget> {
    let interval = Duration::from_millis(20);
    targets_with(
        address,
        HealthSettings {
            path: path.into(),
            interval,
            unhealthy_interval: interval,
            timeout: Duration::from_secs(10),
            rise: 1,
            fall: 1,
            ..HealthSettings::default()
        },
    )
}

/// That are probed once, and then only when there is a reason.
fn rarely_probed(address: SocketAddr) -> Vec<ProbeTarget> {
    let interval = Duration::from_hours(1);
    let timeout = Duration::from_secs(10);
    let (rise, fall) = (3, 3);
    let settings = HealthSettings {
        interval,
        unhealthy_interval: interval,
        timeout,
        rise,
        fall,
        ..HealthSettings::default()
    };
    targets_with(address, settings)
}

fn targets_with(address: SocketAddr, settings: HealthSettings) -> Vec<ProbeTarget> {
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
        let mut checker = Checker::with_seed(
            Arc::new(|_, _| {}),
            Bounds { under_way: 1_000, kept: 1_000 },
            &tokio::runtime::Handle::current(),
            &CancellationToken::new(),
            7,
        );
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

/// What "b" would say that has found all of these, which are to be probed by it alone, in one state.
fn word_of_b(member: &Member, of: &[usize], is_up: bool) -> Option<Vec<Colleague>> {
    let mut verdicts = Verdicts::default();
    for at in of {
        let key = member.targets[*at].key.clone();
        let (endpoint, print) = member.checker.probing(&app(), &key).unwrap().shared.unwrap();
        let sum = &mut verdicts.sums[endpoint.bucket()];
        *sum = sum.wrapping_add(part(print));
        if !is_up {
            verdicts.down.insert(endpoint, Down { app: app(), key, print, why: "gone".into() });
        }
    }
    Some(vec![Colleague { name: "b".into(), verdicts: verdicts.into(), heard_at: Instant::now() }])
}

/// A gateway "a" that relies on "b", and for which endpoints.
async fn relying_on_b(address: SocketAddr) -> (Member, Vec<usize>) {
    let mut a = Member::new("a", 1, rarely_probed(address));
    let fleet = crate::sharing::Fleet::new("a", ["b"]);
    let of_b = |at: &usize| !fleet.probes(EndpointHash::of(&app(), &a.targets[*at].key), 1);
    let foreign: Vec<usize> = (0..TARGETS).filter(of_b).collect();
    eventually("it relies on b", || {
        let word = word_of_b(&a, &foreign, true);
        a.hear(word);
        a.heeded() == foreign
    })
    .await;
    (a, foreign)
}

fn states(member: &Member, of: &[usize], state: State) -> bool {
    of.iter().all(|at| member.targets[*at].cell.state() == state)
}

fn heeded(members: &[Member]) -> usize {
    members.iter().map(|member| member.heeded().len()).sum()
}

/// Until as many endpoints are left to another gateway as there are.
async fn share(members: &mut [Member]) {
    eventually("they share", || {
        talk(members);
        heeded(members) == TARGETS
    })
    .await;
}

#[tokio::test]
async fn two_gateways_probe_half_each_and_know_everything() {
    let server = TestServer::answering(PONG).await;
    let mut members = ["a", "b"].map(|name| Member::new(name, 1, targets(server.address, "/_ping")));
    share(&mut members).await;
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
    share(&mut members).await;
    // Each look tells what was decided since the one before.
    talk(&mut members);
    let heeded = members[0].heeded();
    assert!(heeded.iter().all(|at| members[0].targets[*at].cell.report().heard_from == ["b".into()]));
    let watch = members[0].checker.watch();
    let stats = watch.stats();
    // Looked into, and relied on afterwards.
    assert_eq!(stats.sharing.received()[1].1, 2 * heeded.len() as u64);
    let known = (stats.sharing.heeded(), stats.sharing.disputed(), stats.sharing.colleagues());
    assert_eq!(known, (heeded.len(), 0, (1, 0)));
}

#[tokio::test]
async fn whoever_hears_nothing_probes_everything_after_a_while() {
    let server = TestServer::answering(PONG).await;
    let mut members = ["a", "b"].map(|name| Member::new(name, 1, targets(server.address, "/_ping")));
    share(&mut members).await;
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
    assert_eq!(a.checker.watch().stats().sharing.stale(), count as u64);
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
    share(&mut members).await;
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

#[tokio::test]
async fn one_probe_of_its_own_confirms_bad_news_and_good_news() {
    let server = TestServer::answering(PONG).await;
    let (mut a, foreign) = relying_on_b(server.address).await;
    for (answer, is_up, state) in [(OOPS, false, State::Down), (PONG, true, State::Up)] {
        server.set(Behaviour::Answer(answer.to_owned()));
        eventually("it knows, and relies on b again", || {
            let word = word_of_b(&a, &foreign, is_up);
            a.hear(word);
            states(&a, &foreign, state) && a.heeded() == foreign
        })
        .await;
    }
    for at in foreign {
        let report = a.targets[at].cell.report();
        // Three in a row would have been asked for without b.
        assert_eq!((report.passes_total, report.failures_total), (2, 1));
    }
}

#[tokio::test]
async fn a_gateway_that_lies_takes_nothing_out_and_costs_a_probe_in_three_seconds_at_the_most() {
    let server = TestServer::answering(PONG).await;
    let (mut a, foreign) = relying_on_b(server.address).await;
    let began = Instant::now();
    let mut turns = 0;
    eventually("it contradicts b", || {
        turns += 1;
        let word = word_of_b(&a, &foreign, turns % 2 == 0);
        a.hear(word);
        let word = word_of_b(&a, &foreign, false);
        a.hear(word);
        a.checker.watch().stats().sharing.disputed() == foreign.len()
    })
    .await;
    assert!(turns > 10 && states(&a, &foreign, State::Up) && a.heeded().is_empty());
    let most = 2 + began.elapsed().as_secs() / HOLD.as_secs();
    for at in &foreign {
        let report = a.targets[*at].cell.report();
        assert!(report.failures_total == 0 && report.passes_total <= most, "{report:?}");
    }
    eventually("it relies on b that has come to its senses", || {
        let word = word_of_b(&a, &foreign, true);
        a.hear(word);
        a.heeded() == foreign
    })
    .await;
}

#[tokio::test]
async fn what_requests_find_bad_is_probed_here_and_down_although_others_can_reach_it() {
    let server = TestServer::answering(PONG).await;
    let (mut a, foreign) = relying_on_b(server.address).await;
    server.set(Behaviour::Answer(OOPS.to_owned()));
    let bad = foreign[0];
    a.checker.doubt(&app(), &a.targets[bad].key.clone());
    // Which this gateway probes itself anyway, or nobody knows: nothing happens.
    let own = (0..TARGETS).find(|at| !foreign.contains(at)).unwrap();
    a.checker.doubt(&app(), &a.targets[own].key.clone());
    a.checker.doubt(&AppId::parse("other").unwrap(), &a.targets[own].key.clone());
    eventually("it is down and stays in dispute", || {
        let word = word_of_b(&a, &foreign, true);
        a.hear(word);
        states(&a, &[bad], State::Down) && a.checker.watch().stats().sharing.disputed() == 1
    })
    .await;
    assert_eq!(a.heeded(), foreign[1..]);
    assert_eq!(a.targets[bad].cell.report().failures_total, 1);
    assert!(states(&a, &foreign[1..], State::Up));
}
