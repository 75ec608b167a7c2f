//! The Docker runtime against real engines and a real private registry.
//!
//! Engines take seconds to start, so that one test goes through what can share them.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect has failed")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use deploy::runtime::docker::{
    CALL_DEADLINE, DockerConfig, DockerRuntime, Endpoint, PULL_DEADLINE, RegistryLogin,
};
use deploy::runtime::{
    ExecEnd, ExecRequest, Fault, Image, InjectedFile, InstanceRef, InstanceSpec, InstanceState, LogOptions,
    LogRequest, PortBinding, Resources, Runtime,
};
use futures::StreamExt;
use tests::{DEADLINE, DockerHost, EngineTls, ImageRegistry, PASSWORD, USERNAME, eventually, no_docker};
use topology::{AppId, InstanceId, VersionId};

const MEBIBYTE: u64 = 1 << 20;
const GRACE: Duration = Duration::from_secs(1);

fn config(endpoint: Endpoint, registry: &ImageRegistry) -> DockerConfig {
    let login = RegistryLogin {
        registry: registry.address(),
        username: USERNAME.to_owned(),
        password: PASSWORD.to_owned(),
    };
    DockerConfig {
        host: "engine".into(),
        endpoint,
        owner: "tests".to_owned(),
        logins: vec![login],
        call_deadline: CALL_DEADLINE,
        pull_deadline: PULL_DEADLINE,
    }
}

fn runtime(config: DockerConfig) -> DockerRuntime {
    DockerRuntime::new(config).unwrap()
}

fn id(instance: &str) -> InstanceRef {
    InstanceRef {
        app: AppId::parse("shop").unwrap(),
        version: VersionId::parse("v1").unwrap(),
        instance: InstanceId::parse(instance).unwrap(),
    }
}

fn spec(registry: &ImageRegistry, instance: &str) -> InstanceSpec {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    InstanceSpec {
        id: id(instance),
        image: Some(Image {
            registry: Some(registry.address()),
            repository: "shop".to_owned(),
            tag: "v1".to_owned(),
        }),
        command: Vec::new(),
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
        port: PortBinding { address: free.ip(), host_port: free.port(), container_port: 8080 },
        resources: Resources::default(),
        volumes: Vec::new(),
        files: Vec::new(),
        log: LogOptions::default(),
        labels: BTreeMap::new(),
    }
}

fn shell(spec: InstanceSpec, script: &str) -> InstanceSpec {
    InstanceSpec { command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(), ..spec }
}

fn page(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

fn is_skipped() -> bool {
    if let Some(reason) = no_docker() {
        eprintln!("SKIPPED: {reason}");
        return true;
    }
    false
}

fn hook(script: &str) -> ExecRequest {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ExecRequest { command, environment: BTreeMap::from([("EXTRA".into(), "more".into())]), timeout: DEADLINE }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_run_on_two_engines_from_a_private_registry() {
    if is_skipped() {
        return;
    }
    let registry = ImageRegistry::start();
    let (one, two) = (DockerHost::start(), DockerHost::start());
    one.push_web(&registry, "shop", "v1", "first light");
    let first = runtime(config(Endpoint::Unix(one.socket()), &registry));
    let second = runtime(config(Endpoint::Unix(two.socket()), &registry));
    serves_and_stops(&first, &second, &registry).await;
    says_why_not(&second, &two, &registry).await;
    limits(&first, &one, &registry).await;
    processors_are_counted(&first, &registry).await;
    hooks_and_output(&first, &registry).await;
    ends_are_told(&first, &one, &registry).await;
    hangs_are_bounded(&one, &registry).await;
}

async fn serves_and_stops(first: &DockerRuntime, second: &DockerRuntime, registry: &ImageRegistry) {
    for runtime in [first, second] {
        let spec = spec(registry, "c1");
        let started = runtime.start(&spec).await.unwrap();
        assert_eq!(started.state, InstanceState::Running);
        let address = started.address.unwrap();
        eventually(DEADLINE, "it serves", || page(address).as_deref() == Some("first light"));
        assert_eq!(runtime.start(&spec).await.unwrap(), started, "a second start finds the first");
        assert_eq!(runtime.list().await.unwrap(), [started]);
        let stopped = runtime.stop(&spec.id, GRACE).await.unwrap().unwrap();
        assert!(stopped.state.has_ended() && stopped.ended_at.is_some(), "{stopped:?}");
        assert_eq!(runtime.stop(&spec.id, GRACE).await.unwrap().unwrap(), stopped);
        assert_eq!(
            runtime.start(&spec).await.unwrap(),
            stopped,
            "it is started again after its removal only"
        );
        runtime.remove(&spec.id).await.unwrap();
        runtime.remove(&spec.id).await.unwrap();
        assert_eq!(runtime.stop(&spec.id, GRACE).await.unwrap(), None);
        assert_eq!(runtime.list().await.unwrap(), []);
    }
    let facts = first.host_facts().await.unwrap();
    assert!(facts.runtime.starts_with("Docker ") && facts.cpus > 0 && facts.memory > 0);
    assert!(facts.memory_available.unwrap() <= facts.memory);
}

async fn says_why_not(runtime: &DockerRuntime, host: &DockerHost, registry: &ImageRegistry) {
    let plain = spec(registry, "refused");
    let image = |change: fn(&mut Image)| {
        let mut spec = plain.clone();
        change(spec.image.as_mut().unwrap());
        spec
    };
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let busy = PortBinding { host_port: taken.local_addr().unwrap().port(), ..plain.port };
    let cases = [
        (image(|image| image.tag = "v9".to_owned()), Fault::ImageNotFound),
        (image(|image| image.repository = "nothing".to_owned()), Fault::ImageNotFound),
        (image(|image| image.registry = Some("127.0.0.1:1".to_owned())), Fault::RegistryUnreachable),
        (InstanceSpec { port: busy, ..plain.clone() }, Fault::PortTaken),
        (InstanceSpec { command: vec!["/no/such".to_owned()], ..plain.clone() }, Fault::CommandNotFound),
        (InstanceSpec { image: None, ..plain.clone() }, Fault::InvalidSpec),
    ];
    for (spec, fault) in cases {
        let error = runtime.start(&spec).await.unwrap_err();
        assert_eq!(error.fault, fault, "{error}");
        assert!(!error.may_have_happened, "{error}");
        assert_eq!(runtime.list().await.unwrap(), [], "{error}");
    }
    // Without a login the registry says nothing of its images.
    host.docker(&["image", "prune", "--all", "--force"]);
    let stranger = DockerConfig { logins: Vec::new(), ..config(Endpoint::Unix(host.socket()), registry) };
    let error = self::runtime(stranger).start(&plain).await.unwrap_err();
    assert_eq!(error.fault, Fault::RegistryAuth, "{error}");
    let nowhere = Endpoint::Unix("/no/such/socket".into());
    let error = self::runtime(config(nowhere, registry)).start(&plain).await.unwrap_err();
    assert_eq!((error.fault, error.may_have_happened), (Fault::HostUnreachable, false), "{error}");
}

async fn limits(runtime: &DockerRuntime, host: &DockerHost, registry: &ImageRegistry) {
    let mut spec = spec(registry, "limited");
    spec.resources = Resources {
        memory: Some(64 * MEBIBYTE),
        cpu_shares: Some(512),
        cpu_millis: Some(1500),
        pids: Some(50),
    };
    let started = runtime.start(&spec).await.unwrap();
    let format = "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{.HostConfig.CpuQuota}} {{.HostConfig.PidsLimit}} \
                  {{.HostConfig.RestartPolicy.Name}} {{index .Config.Labels \"sluice.app\"}}";
    let inspect = || {
        let done = host.docker(&["inspect", "--format", format, &started.runtime_id]);
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(inspect(), format!("{} 512 150000 50 no shop", 64 * MEBIBYTE));
    let changed = Resources { memory: Some(128 * MEBIBYTE), cpu_millis: Some(250), ..Resources::default() };
    runtime.update(&spec.id, &changed).await.unwrap();
    // Engines write 0 for no limit of processes.
    assert_eq!(inspect(), format!("{} 1024 25000 0 no shop", 128 * MEBIBYTE));
    runtime.remove(&spec.id).await.unwrap();
    let error = runtime.update(&spec.id, &changed).await.unwrap_err();
    assert_eq!(error.fault, Fault::NoSuchInstance);
}

/// One that works, one that sleeps, one that has ended and one that never was.
async fn processors_are_counted(runtime: &DockerRuntime, registry: &ImageRegistry) {
    let mut busy = shell(spec(registry, "busy"), "while :; do :; done");
    busy.resources.cpu_millis = Some(500);
    let idle = shell(spec(registry, "idle"), "exec /bin/busybox sleep 1000");
    let brief = shell(spec(registry, "over"), "exit 0");
    for spec in [&busy, &idle, &brief] {
        runtime.start(spec).await.unwrap();
    }
    runtime.wait(&brief.id, DEADLINE).await.unwrap();
    let ids = [busy.id.clone(), idle.id.clone(), brief.id.clone(), id("gone")];
    let worked = Duration::from_millis(300);
    let counting = tokio::time::timeout(DEADLINE * 4, async {
        loop {
            let used = runtime.cpu_used(&ids).await.unwrap();
            let of = |id: &InstanceRef| used.iter().find(|(found, _)| found == id).map(|(_, used)| *used);
            assert_eq!((of(&brief.id), of(&ids[3])), (None, None), "{used:?}");
            if of(&busy.id).is_some_and(|used| used >= worked) {
                return of(&idle.id);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let by_idle = counting.await.expect("it works");
    assert!(by_idle.is_some_and(|used| used < worked), "{by_idle:?}");
    for spec in [&busy, &idle, &brief] {
        runtime.remove(&spec.id).await.unwrap();
    }
}

async fn hooks_and_output(runtime: &DockerRuntime, registry: &ImageRegistry) {
    let mut spec = shell(
        spec(registry, "hooked"),
        "echo out $COLOUR $SLUICE_APP; echo error >&2; exec /bin/busybox sleep 1000",
    );
    spec.environment.insert("COLOUR".into(), "blue".into());
    // What is a fact is nobody's to say otherwise.
    spec.environment.insert("SLUICE_APP".into(), "other".into());
    spec.files = vec![InjectedFile { path: "/run/secrets/key".into(), content: Bytes::from("PEM\n") }];
    runtime.start(&spec).await.unwrap();
    let ran =
        runtime.exec(&spec.id, &hook("echo $COLOUR $EXTRA; /bin/busybox cat /run/secrets/key; exit 5")).await;
    let ran = ran.unwrap();
    assert_eq!((ran.end, &ran.output[..]), (ExecEnd::Exited(5), &b"blue more\nPEM\n"[..]));
    let slow =
        ExecRequest { timeout: Duration::from_millis(300), ..hook("echo begun; /bin/busybox sleep 1000") };
    let ran = runtime.exec(&spec.id, &slow).await.unwrap();
    assert_eq!((ran.end, &ran.output[..]), (ExecEnd::TimedOut, &b"begun\n"[..]));
    let ran = runtime.exec(&spec.id, &hook("/bin/busybox yes | /bin/busybox head -c 1000000")).await.unwrap();
    assert_eq!((ran.output.len(), ran.truncated), (64 << 10, true));
    let lacking = ExecRequest { command: vec!["no-such-hook".into()], ..hook("") };
    let error = runtime.exec(&spec.id, &lacking).await.unwrap_err();
    assert_eq!(error.fault, Fault::CommandNotFound, "{error}");

    let request = LogRequest { follow: true, ..LogRequest::default() };
    let followed = runtime.logs(&spec.id, &request).await.unwrap();
    let stop = async {
        runtime.stop(&spec.id, Duration::ZERO).await.unwrap();
    };
    let (lines, ()) = tokio::join!(followed.map(|line| line.unwrap().text).collect::<Vec<_>>(), stop);
    assert_eq!(lines.len(), 2);
    assert!(
        lines.contains(&Bytes::from("out blue shop")) && lines.contains(&Bytes::from("error")),
        "{lines:?}"
    );
    runtime.remove(&spec.id).await.unwrap();
    let gone = runtime.logs(&spec.id, &request).await.err().unwrap();
    assert_eq!(gone.fault, Fault::NoSuchInstance);
}

async fn ends_are_told(runtime: &DockerRuntime, host: &DockerHost, registry: &ImageRegistry) {
    let brief = shell(spec(registry, "brief"), "exit 3");
    runtime.start(&brief).await.unwrap();
    let ended = runtime.wait(&brief.id, DEADLINE).await.unwrap().unwrap();
    assert_eq!(ended.state, InstanceState::Exited { code: Some(3), signal: None }, "{ended:?}");
    let mut greedy = shell(spec(registry, "greedy"), "/bin/busybox tail /dev/zero");
    greedy.resources.memory = Some(16 * MEBIBYTE);
    runtime.start(&greedy).await.unwrap();
    let ended = runtime.wait(&greedy.id, DEADLINE).await.unwrap().unwrap();
    assert_eq!(ended.state, InstanceState::OutOfMemory, "{ended:?}");
    // What is not ours is neither listed nor touched, whatever it says of itself.
    let image = format!("{}/shop:v1", registry.address());
    let foreign = ["run", "--detach", "--label", "sluice.owner=others", "--label", "sluice.app=shop", &image];
    assert!(host.docker(&foreign).status.success());
    let listed: Vec<_> = runtime.list().await.unwrap().into_iter().map(|found| found.id).collect();
    assert_eq!(listed, [brief.id.clone(), greedy.id.clone()]);
    for id in listed {
        runtime.remove(&id).await.unwrap();
    }
}

/// Both: one that hangs while it is connected to, and one that hangs while it is asked.
async fn hangs_are_bounded(host: &DockerHost, registry: &ImageRegistry) {
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("sock");
    let _accepts_and_says_nothing = UnixListener::bind(&silent).unwrap();
    let brief = |socket| DockerConfig {
        call_deadline: Duration::from_millis(500),
        ..config(Endpoint::Unix(socket), registry)
    };
    let error = runtime(brief(silent)).list().await.unwrap_err();
    assert_eq!((error.fault, error.may_have_happened), (Fault::Timeout, true), "{error}");

    let stopped = runtime(brief(host.socket()));
    stopped.list().await.unwrap();
    rustix::process::kill_process(host.pid(), rustix::process::Signal::STOP).unwrap();
    let error = stopped.stop(&id("c1"), GRACE).await.unwrap_err();
    rustix::process::kill_process(host.pid(), rustix::process::Signal::CONT).unwrap();
    assert_eq!(error.fault, Fault::Timeout, "{error}");
    eventually(DEADLINE, "it answers again", || host.docker(&["version"]).status.success());
    assert_eq!(stopped.list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_behind_tls_is_asked_by_those_of_its_authority_alone() {
    if is_skipped() {
        return;
    }
    let (our_folder, their_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (authority(our_folder.path()), authority(their_folder.path()));
    let host = DockerHost::start_with(Some(&ours));
    let registry = ImageRegistry::start();
    let endpoint = |trusted: &EngineTls, shown: &EngineTls| Endpoint::Tls {
        address: format!("127.0.0.1:{}", host.port()),
        authority: trusted.authority.clone(),
        certificate: shown.certificate.clone(),
        key: shown.key.clone(),
    };
    assert_eq!(runtime(config(endpoint(&ours, &ours), &registry)).list().await.unwrap(), []);
    let stranger = runtime(config(endpoint(&ours, &theirs), &registry)).list().await.unwrap_err();
    assert_eq!(stranger.fault, Fault::HostUnreachable, "{stranger}");
    let impostor = runtime(config(endpoint(&theirs, &ours), &registry)).list().await.unwrap_err();
    assert_eq!((impostor.fault, impostor.may_have_happened), (Fault::HostUnreachable, false), "{impostor}");
    let missing = EngineTls { key: "/no/such/key.pem".into(), ..ours.clone() };
    let error = DockerRuntime::new(config(endpoint(&ours, &missing), &registry)).unwrap_err();
    assert!(error.to_string().contains("/no/such/key.pem"), "{error}");
}

/// An authority, and a certificate of it for either side.
fn authority(folder: &Path) -> EngineTls {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority \
         -keyout ca.key -out ca.pem && \
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=engine -keyout key.pem -out csr.pem && \
         printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth' > ext && \
         openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| folder.join(name);
    EngineTls { authority: file("ca.pem"), certificate: file("cert.pem"), key: file("key.pem") }
}
