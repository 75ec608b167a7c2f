use std::sync::Mutex;
use std::time::Duration;

use topology::{InstanceId, OnFailure, VersionId};

use super::*;
use crate::test_server::{Behaviour, PONG, TestServer, eventually};
use crate::{ProbeResult, State};

const OOPS: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
const INTERVAL: Duration = Duration::from_millis(20);
const BOUNDS: Bounds = Bounds { under_way: 1_000, kept: 1_000 };
/// No probe but the first falls into a test.
const NEVER: Duration = Duration::from_secs(3600);

type Seen = Arc<Mutex<Vec<(String, State)>>>;

fn checker() -> (Checker, Seen) {
    let seen = Seen::default();
    let told = seen.clone();
    let hook = move |target: &ProbeTarget, transition: Transition| {
        told.lock().unwrap().push((target.key.instance.to_string(), transition.to));
    };
    (checker_with(Arc::new(hook), &CancellationToken::new()), seen)
}

fn checker_with(hook: OnTransition, cancel: &CancellationToken) -> Checker {
    Checker::with_seed(hook, BOUNDS, &Handle::current(), cancel, 7)
}

/// Lines of the timetable, and probes under way.
fn probed(checker: &Checker) -> (usize, usize) {
    // The task that begins probes is always there.
    (checker.surroundings.timetable().len(), checker.tasks.len() - 1)
}

fn app() -> AppId {
    AppId::parse("shop").unwrap()
}

fn target(instance: &str, address: SocketAddr, interval: Duration) -> ProbeTarget {
    let settings = HealthSettings {
        interval,
        unhealthy_interval: interval,
        timeout: Duration::from_secs(10),
        rise: 2,
        fall: 2,
        ..HealthSettings::default()
    };
    ProbeTarget {
        app: app(),
        key: InstanceKey {
            version: VersionId::parse("v1").unwrap(),
            instance: InstanceId::parse(instance).unwrap(),
        },
        address,
        protocol: Protocol::Http1,
        tls: None,
        settings: Arc::new(settings),
        may_be_shared: true,
        cell: Arc::default(),
    }
}

fn state(target: &ProbeTarget) -> State {
    target.cell.report().state
}

#[tokio::test]
async fn endpoint_goes_down_comes_back_and_its_owner_is_told() {
    let server = TestServer::answering(PONG).await;
    let (mut checker, seen) = checker();
    let target = target("c1", server.address, INTERVAL);
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("up", || state(&target) == State::Up).await;
    server.set(Behaviour::Answer(OOPS.to_owned()));
    eventually("down", || !target.cell.is_up()).await;
    assert!(target.cell.report().consecutive_failures >= 2);
    server.set(Behaviour::Answer(PONG.to_owned()));
    eventually("up again", || target.cell.is_up()).await;

    let told: Vec<State> = seen.lock().unwrap().iter().map(|(_, to)| *to).collect();
    assert_eq!(told, [State::Up, State::Down, State::Up]);
    assert_eq!(target.cell.report().last_error.unwrap().text.as_ref(), "answered 500 Internal Server Error");
    assert_eq!(checker.watch().stats().transitions(), [(State::Up, 2), (State::Down, 1)]);
    let failed =
        checker.watch().stats().probes().find(|(result, _)| *result == ProbeResult::Status).unwrap().1;
    assert_eq!(failed, target.cell.report().failures_total);
    assert_eq!(server.accepted(), 1, "probes did not share a connection");
}

#[tokio::test]
async fn new_endpoint_that_fails_its_first_probe_is_down_at_once() {
    let server = TestServer::answering(OOPS).await;
    let (mut checker, _) = checker();
    let target = target("c1", server.address, NEVER);
    assert!(target.cell.is_up(), "a new endpoint takes traffic");
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("down", || !target.cell.is_up()).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn unchanged_target_keeps_its_turn_and_its_connection() {
    let server = TestServer::answering(PONG).await;
    let (mut checker, _) = checker();
    let target = target("c1", server.address, INTERVAL);
    for round in 1..=5 {
        checker.reconcile(&app(), vec![target.clone()]);
        eventually("probed", || server.requests().len() > round).await;
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(probed(&checker).0, 1);
}

#[tokio::test]
async fn other_settings_restart_the_probes_and_keep_the_state() {
    let server = TestServer::answering(OOPS).await;
    let (mut checker, _) = checker();
    let mut target = target("c1", server.address, NEVER);
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("down", || !target.cell.is_up()).await;

    server.set(Behaviour::Answer(PONG.to_owned()));
    target.settings = Arc::new(HealthSettings { path: "/health".into(), ..(*target.settings).clone() });
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("probed with the new path", || server.requests().iter().any(|r| r.contains("/health"))).await;
    eventually("passed once", || target.cell.report().consecutive_passes == 1).await;
    assert!(!target.cell.is_up(), "one pass of two brought it back");
}

#[tokio::test]
async fn endpoint_at_another_address_starts_as_unknown() {
    let (old, new) = (TestServer::answering(OOPS).await, TestServer::start(Behaviour::Hang).await);
    let (mut checker, _) = checker();
    let mut target = target("c1", old.address, NEVER);
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("down", || !target.cell.is_up()).await;
    target.address = new.address;
    checker.reconcile(&app(), vec![target.clone()]);
    assert_eq!(state(&target), State::Unknown);
    eventually("probed at the new address", || new.requests().len() == 1).await;
}

#[tokio::test]
async fn removed_target_is_left_alone_at_once() {
    let server = TestServer::start(Behaviour::Hang).await;
    let (mut checker, seen) = checker();
    let target = target("c1", server.address, INTERVAL);
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("a probe under way", || server.requests().len() == 1).await;
    checker.remove(&app());
    eventually("its connection closed", || server.open() == 0).await;
    eventually("its task gone", || probed(&checker) == (0, 0)).await;
    assert_eq!(target.cell.report().last_probe, None);
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn down_endpoint_whose_probes_are_switched_off_takes_traffic() {
    let server = TestServer::answering(OOPS).await;
    let (mut checker, _) = checker();
    let target = target("c1", server.address, NEVER);
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("down", || !target.cell.is_up()).await;
    checker.reconcile(&app(), Vec::new());
    assert!(target.cell.is_up());
}

#[tokio::test]
async fn one_apps_changes_leave_another_alone() {
    let server = TestServer::answering(PONG).await;
    let (mut checker, _) = checker();
    let (shop, blog) = (target("c1", server.address, NEVER), target("c2", server.address, NEVER));
    let other = AppId::parse("blog").unwrap();
    checker.reconcile(&app(), vec![shop.clone()]);
    checker.reconcile(&other, vec![ProbeTarget { app: other.clone(), ..blog.clone() }]);
    eventually("both up", || state(&shop) == State::Up && state(&blog) == State::Up).await;
    checker.remove(&app());
    assert_eq!((state(&shop), state(&blog)), (State::Unknown, State::Up));
}

#[tokio::test]
async fn same_key_twice_is_probed_once() {
    let server = TestServer::answering(PONG).await;
    let (mut checker, _) = checker();
    let target = target("c1", server.address, NEVER);
    checker.reconcile(&app(), vec![target.clone(), target.clone()]);
    assert_eq!(probed(&checker).0, 1);
    eventually("up", || state(&target) == State::Up).await;
}

#[tokio::test]
async fn many_new_endpoints_are_all_probed_soon() {
    let server = TestServer::answering(PONG).await;
    let (mut checker, seen) = checker();
    let targets: Vec<_> = (0..300)
        .map(|index| target(&format!("c{index}"), server.address, Duration::from_millis(500)))
        .collect();
    checker.reconcile(&app(), targets);
    eventually("all up", || seen.lock().unwrap().len() == 300).await;
}

#[tokio::test]
async fn a_panic_of_the_hook_ends_no_probing() {
    let server = TestServer::answering(PONG).await;
    let hook = |_: &ProbeTarget, _: Transition| panic!("the owner's mistake");
    let mut checker = checker_with(Arc::new(hook), &CancellationToken::new());
    let target = target("c1", server.address, INTERVAL);
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("more probes", || server.requests().len() >= 3).await;
    assert_eq!(state(&target), State::Up);
}

#[tokio::test]
async fn connections_are_kept_as_far_as_there_is_room() {
    let server = TestServer::answering(PONG).await;
    let mut checker = Checker::with_seed(
        Arc::new(|_, _| {}),
        Bounds { kept: 2, ..BOUNDS },
        &Handle::current(),
        &CancellationToken::new(),
        7,
    );
    let targets: Vec<_> =
        (0..4).map(|number| target(&format!("c{number}"), server.address, INTERVAL)).collect();
    checker.reconcile(&app(), targets.clone());
    eventually("all are probed a few times", || {
        targets.iter().all(|target| target.cell.report().passes_total >= 5)
    })
    .await;
    assert!(server.accepted() > 4, "{}", server.accepted());
    let watch = checker.watch();
    eventually("two are kept", || watch.standing().kept == 2).await;
    // What is kept goes with its endpoint.
    checker.remove(&app());
    eventually("all are closed", || server.open() == 0).await;
    assert_eq!(checker.surroundings.timetable().kept(), 0);
}

#[tokio::test]
async fn connections_are_given_up_when_there_are_no_sockets() {
    let server = TestServer::answering(PONG).await;
    let (mut checker, _) = checker();
    let targets: Vec<_> =
        (0..40).map(|number| target(&format!("c{number}"), server.address, NEVER)).collect();
    checker.reconcile(&app(), targets);
    let watch = checker.watch();
    eventually("all are kept", || watch.standing().kept == 40).await;
    watch.relief().give_up_kept();
    eventually("all are closed", || server.open() == 0).await;
    let standing = watch.standing();
    assert_eq!((standing.kept, standing.under_way, standing.lag), (0, 0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn probes_that_cannot_be_sent_are_told_to_be_late() {
    let (mut checker, _) = checker();
    checker.surroundings.timetable().set_most_under_way(0);
    checker.share("a", 1);
    checker.reconcile(&app(), vec![target("c1", ([127, 0, 0, 1], 1).into(), NEVER)]);
    assert!(checker.look());
    tokio::time::advance(Duration::from_secs(4)).await;
    // Nobody relies on one who does not look.
    assert!(!checker.look());
    assert_eq!(checker.watch().standing().lag, Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_leaves_no_task_and_keeps_states() {
    let server = TestServer::answering(OOPS).await;
    let (mut checker, _) = checker();
    let targets: Vec<_> =
        (0..20).map(|index| target(&format!("c{index}"), server.address, INTERVAL)).collect();
    checker.reconcile(&app(), targets.clone());
    eventually("all down", || targets.iter().all(|target| !target.cell.is_up())).await;
    checker.stop().await;
    assert!(targets.iter().all(|target| !target.cell.is_up()));
    eventually("all connections closed", || server.open() == 0).await;
}

#[tokio::test]
async fn cancelling_the_owner_ends_all_probes() {
    let server = TestServer::start(Behaviour::Hang).await;
    let cancel = CancellationToken::new();
    let mut checker = checker_with(Arc::new(|_, _| {}), &cancel);
    checker.reconcile(&app(), vec![target("c1", server.address, INTERVAL)]);
    eventually("a probe under way", || server.open() == 1).await;
    cancel.cancel();
    eventually("its connection closed", || server.open() == 0).await;
    eventually("no task", || checker.tasks.is_empty()).await;
    let timetable = checker.surroundings.timetable();
    assert_eq!((timetable.len(), timetable.under_way()), (0, 0));
}

#[tokio::test]
async fn endpoint_that_is_down_is_probed_at_its_own_interval() {
    let server = TestServer::answering(OOPS).await;
    let (mut checker, _) = checker();
    let mut target = target("c1", server.address, NEVER);
    target.settings = Arc::new(HealthSettings { unhealthy_interval: INTERVAL, ..(*target.settings).clone() });
    checker.reconcile(&app(), vec![target.clone()]);
    eventually("probed often while it is down", || server.requests().len() > 5).await;
}

#[tokio::test]
async fn failing_is_reported_after_fall_failures_and_again_until_it_passes() {
    let server = TestServer::answering(PONG).await;
    let (mut checker, _) = checker();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = told.clone();
    checker.on_failing(Arc::new(move |target: &ProbeTarget, report: &HealthReport| {
        tells.lock().unwrap().push((target.settings.on_failure, report.consecutive_failures));
    }));
    let mut ejected = target("c1", server.address, INTERVAL);
    let restart = HealthSettings { on_failure: OnFailure::Restart, fall: 3, ..(*ejected.settings).clone() };
    let restarted = ProbeTarget { settings: Arc::new(restart), ..target("c2", server.address, INTERVAL) };
    ejected.settings = Arc::new(HealthSettings { fall: 1, ..(*ejected.settings).clone() });
    checker.reconcile(&app(), vec![ejected.clone(), restarted.clone()]);
    eventually("both up", || state(&ejected) == State::Up && state(&restarted) == State::Up).await;
    server.set(Behaviour::Answer(OOPS.to_owned()));
    eventually("told thrice", || told.lock().unwrap().len() >= 3).await;
    server.set(Behaviour::Answer(PONG.to_owned()));
    eventually("up again", || state(&restarted) == State::Up).await;
    let told = told.lock().unwrap().clone();
    assert_eq!(told[..3], [3, 6, 9].map(|failures| (OnFailure::Restart, failures)));
}

/// What the schedule itself costs: probes of datagram endpoints end where they begin. Prints, and asserts nothing of time.
#[tokio::test]
#[ignore = "a measurement of 20 s"]
async fn schedule_of_a_hundred_thousand_endpoints() {
    const ENDPOINTS: u64 = 100_000;
    const ROUNDS: u64 = 2;
    let mut checker = checker_with(Arc::new(|_, _| {}), &CancellationToken::new());
    let address = ([127, 0, 0, 1], 1).into();
    let all = (0..ENDPOINTS).map(|at| ProbeTarget {
        protocol: Protocol::Udp,
        ..target(&format!("c{at}"), address, Duration::from_secs(5))
    });
    checker.reconcile(&app(), all.collect());
    let watch = checker.watch();
    let probes = || watch.stats().probes().map(|(_, count)| count).sum::<u64>();
    eventually("every endpoint is probed", || probes() >= ENDPOINTS).await;
    let (before, began, first) = (cpu_ticks(), std::time::Instant::now(), probes());
    eventually("every endpoint is probed again, twice", || probes() >= first + ROUNDS * ENDPOINTS).await;
    // Clock ticks are hundredths of a second on every Linux.
    let (took, cpu) = (began.elapsed(), (cpu_ticks() - before) as f64 / 100.0);
    let share = 100.0 * cpu / took.as_secs_f64();
    println!("{ENDPOINTS} endpoints every 5 s: {cpu:.2} s of CPU in {took:.1?}, {share:.1} % of a core");
}

/// User and system time of this process so far.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the program's name, which may contain anything: fields 14 and 15 of all.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn no_more_probes_are_under_way_than_there_may_be() {
    let server = TestServer::answering(PONG).await;
    server.set(Behaviour::Hang);
    let (mut checker, _) = checker();
    checker.surroundings.timetable().set_most_under_way(2);
    let targets: Vec<_> =
        (0..6).map(|number| target(&format!("c{number}"), server.address, INTERVAL)).collect();
    checker.reconcile(&app(), targets);
    eventually("two are asked", || server.accepted() == 2).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.accepted(), 2);
    // Those that are removed give their places to others.
    checker.reconcile(&app(), vec![target("c9", server.address, INTERVAL)]);
    eventually("another one is asked", || server.accepted() == 3).await;
}
