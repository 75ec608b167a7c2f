use discovery::registry::Key;

use super::*;

fn key(path: &str) -> Key {
    Key::parse(path).unwrap()
}

fn deployment(json: &str) -> Result<Deployment, String> {
    Deployment::parse(&key("deploy/shop"), json.as_bytes()).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn the_least_that_can_be_said_is_enough() {
    let read = deployment(r#"{"versions": {"v1": {"image": "registry.local:5000/shop:v1"}}}"#).unwrap();
    assert_eq!((read.version.as_str(), read.instances, read.running), ("v1", 1, true));
    let spec = read.wanted().unwrap();
    let Run::Image { registry, repository, tag, command } = &spec.run else { panic!("{spec:?}") };
    assert_eq!(
        (registry.as_deref(), &**repository, &**tag, command.len()),
        (Some("registry.local:5000"), "shop", "v1", 0)
    );
    assert_eq!(spec.probe, Probe::default());
    assert_eq!(read.rollout, RolloutPolicy::default());
}

#[test]
fn everything_that_can_be_said_is_read() {
    let text = r#"
        id = "shop"
        version = "v2"
        instances = 3
        depends_on = ["db"]
        [versions.v1]
        command = ["./shop", "--port", "8080"]
        [versions.v2]
        image = "shop@sha256:0123"
        port = 9000
        protocol = "h2"
        env = { LOG = "debug", EMPTY = "" }
        secrets = { DB_PASSWORD = "db.password" }
        files = { "/etc/shop/tls.key" = "tls.key" }
        user = "1000:1000"
        working_dir = "/srv"
        start_timeout = "1m"
        drain_timeout = "30s"
        stop_grace = "5s"
        resources = { memory = "256MiB", cpu = 0.5, pids = 100 }
        volumes = [{ source = "/srv/shop", target = "/data", read_only = true }]
        probe = { path = "/up", interval = "2s", rise = 1, deadline = "20s" }
        hooks = { start = ["./warm-up"], status = { command = ["./ok"], timeout = "5s" } }
        [placement]
        strategy = "spread"
        require = { zone = "a" }
        prefer = { disk = "ssd" }
        apart = ["noisy"]
        near = ["cache"]
        one_per_host = true
        [rollout]
        kind = "canary"
        steps = [{ share = 10, pause = "5m" }, { share = 50, pause = "manual" }]
        judge = { max_error_rate = 0.01, max_latency = "500ms", min_requests = 50 }
        [restart]
        on_unhealthy = "stop"
        [autoscale]
        min = 2
        max = 10
        requests = 100
    "#;
    let (app, read) = Deployment::parse_file("shop.toml", text).unwrap();
    assert_eq!((app.as_str(), read.depends_on.len()), ("shop", 1));
    let spec = read.wanted().unwrap();
    assert_eq!((spec.resources.memory, spec.resources.cpu), (256 << 20, 500));
    assert_eq!(spec.hooks.start.as_ref().unwrap().timeout, Hook::DEFAULT_TIMEOUT);
    let RolloutKind::Canary { steps } = &read.rollout.kind else { panic!("{:?}", read.rollout) };
    assert_eq!(steps[1], Step { share: 50, hold: Hold::Manual });
    // What is stored is read back as it was.
    let release = Release { version: read.version.clone(), config_generation: 3, spec: spec.clone() };
    let stored = serde_json::to_string(&release).unwrap();
    let again: Release = serde_json::from_str(&stored).unwrap();
    assert_eq!((again.digest(), &again), (release.digest(), &release));
    let other = Release { config_generation: 4, ..release.clone() };
    assert_ne!(other.digest(), release.digest(), "another configuration is another release");
}

#[test]
fn all_mistakes_are_told_at_once_with_their_keys() {
    let mistakes = deployment(
        r#"{"versions": {"v1": {"image": "shop", "env": {"PORT": "1", "A-B": "x", "C": "x", "SLUICE_APP": "x"}, "secrets": {"C": "c d"},
                "files": {"etc/x": "x"}, "resources": {"memory": "1MiB", "cpus": 2}, "probe": {"kind": "tcp", "path": "/"},
                "hooks": {"start": []}, "volumes": [{"source": "/a"}]},
            "v 2": {"comand": ["a"]}},
            "version": "v3", "instances": 100000, "placement": {"near": ["a"], "apart": ["a"]},
            "rollout": {"kind": "blue_green", "surge": 1, "judge": {}}, "restart": {"backoff": "10s", "max_backoff": "1s"},
            "autoscale": {"min": 3, "max": 2}}"#,
    )
    .unwrap_err();
    for told in [
        "versions.v1.image: is no image; write registry/repository:tag",
        "versions.v1.env.PORT: is set by us",
        "versions.v1.env.SLUICE_APP: is set by us",
        "versions.v1.env.A-B: is no variable",
        "versions.v1.secrets.C: is no name in the configuration",
        "versions.v1.files.\"etc/x\": is no absolute path",
        "versions.v1.resources.memory: \"1MiB\" is out of range",
        "versions.v1.resources.cpus: unknown key; did you mean \"cpu\"?",
        "versions.v1.probe.path: only kind = \"http\"",
        "versions.v1.hooks.start: is empty",
        "versions.v1.volumes[0].target: is missing",
        "versions.\"v 2\": \"v 2\" is no valid version",
        "versions.\"v 2\".comand: unknown key; did you mean \"command\"?",
        "version: v3 is none of versions",
        "instances: must be an integer from 0 to 1000",
        "placement.near: a stands in apart too",
        "rollout.surge: is for kind = \"rolling\"; remove it",
        "rollout.judge: judges by nothing",
        "restart.max_backoff: is shorter than backoff",
        "autoscale.max: is below min, 3",
        "autoscale: scales by nothing",
    ] {
        assert!(mistakes.contains(told), "{told} is not in\n{mistakes}");
    }
}

#[test]
fn a_policy_that_could_never_move_is_refused() {
    let refused = |rollout: &str| {
        deployment(&format!(r#"{{"versions": {{"v1": {{"command": ["a"]}}}}, "rollout": {rollout}}}"#))
            .unwrap_err()
    };
    assert!(refused(r#"{"surge": 0, "unavailable": 0}"#).contains("nothing could move"));
    assert!(refused(r#"{"kind": "canary"}"#).contains("rollout.steps: has no step"));
    let falling = refused(r#"{"kind": "canary", "steps": [{"share": 50}, {"share": 50}]}"#);
    assert!(falling.contains("rollout.steps[1].share: must be above the 50 of the step before"), "{falling}");
}

#[test]
fn images_are_read_as_docker_reads_them() {
    let read = |image: &str| {
        let json = format!(r#"{{"versions": {{"v1": {{"image": "{image}"}}}}}}"#);
        let Run::Image { registry, repository, tag, .. } = deployment(&json).ok()?.wanted()?.run.clone()
        else {
            return None;
        };
        Some((registry.unwrap_or_default(), repository, tag))
    };
    let whole = |one: &str, two: &str, three: &str| Some((one.to_owned(), two.to_owned(), three.to_owned()));
    assert_eq!(read("shop:v1"), whole("", "shop", "v1"));
    assert_eq!(read("team/shop:v1"), whole("", "team/shop", "v1"));
    assert_eq!(read("localhost/shop:v1"), whole("localhost", "shop", "v1"));
    assert_eq!(read("r.test:5000/a/b@sha256:ab"), whole("r.test:5000", "a/b", "sha256:ab"));
    for bad in ["shop", "shop:", ":v1", "a//b:v1", "r.test/:v1", "shop:v1/x", "sh op:v1", "a:b:c/d"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn hosts_and_their_ledgers_are_read() {
    let at = key("host/h1");
    let host = Host::parse(
        &at,
        br#"{"address": "10.0.0.1", "memory": "8GiB", "cpu": 2.5, "labels": {"zone": "a"}}"#,
    );
    let host = host.unwrap();
    assert_eq!((host.cpu, host.ports), (2_500, Host::DEFAULT_PORTS));
    let refused = Host::parse(&at, br#"{"address": "h1", "ports": [0, 70000]}"#).unwrap_err().to_string();
    for told in
        ["address: is no IP address", "memory: is missing", "cpu: is missing", "ports: must be from 1"]
    {
        assert!(refused.contains(told), "{refused}");
    }
    let mut ledger = Ledger::default();
    for (name, port) in [("shop/a", 1), ("shop/b", 2), ("shop2/a", 3), ("sho/a", 4)] {
        ledger.given.insert(name.to_owned(), Share { memory: 10, cpu: 5, port });
    }
    let ledger = Ledger::parse(&key("allocation/h1"), &ledger.to_value()).unwrap();
    assert_eq!((ledger.memory(), ledger.cpu()), (40, 20));
    assert_eq!(ledger.count(&topology::AppId::parse("shop").unwrap()), 2);
}

#[test]
fn keys_are_told_apart() {
    use keys::Place;
    let place = |path: &str| Place::of(&key(path));
    let app = topology::AppId::parse("shop").unwrap();
    let host = topology::HostId::parse("h1").unwrap();
    assert_eq!(place("deploy/shop"), Some(Place::Deployment(app.clone())));
    assert_eq!(place("port/h1/25000"), Some(Place::Port(host, 25_000)));
    let instance = topology::InstanceId::parse("c1").unwrap();
    assert_eq!(Place::of(&keys::instance(&app, &instance)), Some(Place::Instance(app, instance)));
    for other in
        ["app/shop", "service/address/shop/v1/c1", "port/h1/70000", "deploy/shop/x", "deploy/.x", "gateway/a"]
    {
        assert_eq!(place(other), None, "{other}");
    }
}

#[test]
fn the_documents_example_is_what_it_says() {
    let document = include_str!("../../../docs/deploy.md");
    let example = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let (_, read) = Deployment::parse_file("docs/deploy.md", example).unwrap();
    let spec = read.wanted().unwrap();
    assert_eq!(read.rollout, RolloutPolicy::default(), "what is shown are the defaults");
    assert_eq!(read.restart, RestartPolicy::default());
    assert_eq!(spec.probe, Probe::default());
    let waits = [spec.start_timeout, spec.drain_timeout, spec.stop_grace];
    let defaults = [
        VersionSpec::DEFAULT_START_TIMEOUT,
        VersionSpec::DEFAULT_DRAIN_TIMEOUT,
        VersionSpec::DEFAULT_STOP_GRACE,
    ];
    assert_eq!(waits, defaults);
}
