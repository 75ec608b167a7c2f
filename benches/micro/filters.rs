//! What each filter adds to a request: its decision and the lines that it writes.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use gateway::filter::{self, Asked, Changes, Compiling, Filters, Sources};
use gateway::message::{NO_NAMES, RequestHead};
use topology::filters::{
    Addresses, ApiKey, ApiKeyPlace, ApiKeys, Cors, ErrorPages, Fault, Filters as Settings, HeaderEdits,
    HeaderValue, Jwks, Jwt, Maintenance, Mirror, MirrorTarget, Piece, RateKey, RateLimit, Redirect,
    RedirectStatus, Rewrite, Scope, TokenPlace, Variable,
};
use topology::{AppId, PathMatch, VersionId};

use crate::heads;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filters");
    for (name, settings) in cases() {
        let filters = compiled(settings);
        let parsed = RequestHead::parse(heads::BROWSER).expect("it is valid");
        let now = Instant::now();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut changes = Changes::default();
                let step = filters.decide(&asked(black_box(&parsed), now), &mut changes, 0);
                black_box((step, changes.request.len(), changes.always.len()))
            });
        });
    }
    group.finish();
}

fn compiled(settings: Settings) -> Filters {
    let app = AppId::parse("shop").expect("a name");
    let with = Compiling { app: &app, former: None, workers: 1, sources: &Sources::default() };
    filter::compile(&Arc::new(settings), with)
}

fn asked<'a>(request: &'a RequestHead, now: Instant) -> Asked<'a> {
    Asked {
        request,
        head: heads::BROWSER,
        path: b"/products/42",
        host: "shop.example.com",
        app: "shop",
        taken_by: None,
        id: b"0123456789abcdef89abcdef01234567",
        now,
        worker: 0,
        is_tls: true,
        peer: CLIENT,
        trusts: None,
        told: &NO_NAMES,
        found: Default::default(),
    }
}

fn cases() -> Vec<(&'static str, Settings)> {
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    };
    vec![
        ("none_of_its_kind", Settings::default()),
        ("addresses_1", with(|settings| settings.addresses = Some(denied(1)))),
        ("addresses_100000", with(|settings| settings.addresses = Some(denied(100_000)))),
        ("rate_limit_by_client", with(|settings| settings.rate_limits = vec![limit()])),
        ("cors_without_origin", with(|settings| settings.cors = Some(cors()))),
        ("redirects_10_missed", with(|settings| settings.redirects = (0..10).map(redirect).collect())),
        ("api_key_missing", with(|settings| settings.api_keys = Some(api_keys()))),
        ("jwt_missing", with(|settings| settings.jwt = Some(jwt()))),
        ("rewrite", with(|settings| settings.rewrite = Some(rewrite()))),
        ("headers_3", with(|settings| settings.request_headers = Some(edits()))),
        ("response_headers_3", with(|settings| settings.response_headers = Some(edits()))),
        ("error_pages", with(|settings| settings.error_pages = Some(pages()))),
        ("maintenance_off", with(|settings| settings.maintenance = Some(maintenance(false)))),
        ("maintenance_refused", with(|settings| settings.maintenance = Some(maintenance(true)))),
        ("faults_1_missed", with(|settings| settings.faults = vec![fault(1, None)])),
        ("faults_delayed", with(|settings| settings.faults = vec![fault(100, None)])),
        ("faults_aborted", with(|settings| settings.faults = vec![fault(100, Some(503))])),
        ("mirror_1_missed", with(|settings| settings.mirror = Some(mirror(1)))),
        ("mirror_all", with(|settings| settings.mirror = Some(mirror(100)))),
    ]
}

fn denied(count: u32) -> Addresses {
    let network = |at: u32| {
        let address = Ipv4Addr::from(0x0a00_0000 + at * 300);
        ipnet::IpNet::from(IpAddr::V4(address))
    };
    Addresses { deny: (0..count).map(network).collect(), ..Addresses::default() }
}

fn limit() -> RateLimit {
    let most = NonZeroU32::new(1_000_000_000).expect("not 0");
    RateLimit {
        name: "x".into(),
        key: RateKey::Client,
        requests: most,
        per: Duration::from_secs(1),
        burst: most,
        keys: 16_384,
    }
}

fn cors() -> Cors {
    Cors {
        origins: vec!["https://app.example.com".into()],
        methods: vec!["GET".into()],
        headers: None,
        expose: Vec::new(),
        credentials: false,
        max_age: Duration::from_secs(600),
    }
}

fn redirect(at: u32) -> Redirect {
    Redirect {
        from: PathMatch::parse(&format!("/old-{at}")).expect("a path"),
        host: None,
        to: "/new".into(),
        status: RedirectStatus(308),
        keep_query: true,
    }
}

fn api_keys() -> ApiKeys {
    ApiKeys {
        scope: Scope::default(),
        place: ApiKeyPlace::Header("User-Agent".into()),
        keys: vec![ApiKey { name: "alice".into(), sha256: [7; 32] }],
        file: None,
        consumer_header: "X-Consumer".into(),
    }
}

fn jwt() -> Jwt {
    Jwt {
        scope: Scope::default(),
        place: TokenPlace::Bearer,
        keys: Jwks::Inline(r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#.into()),
        issuer: None,
        audience: Vec::new(),
        leeway: Duration::from_secs(30),
        claims: Vec::new(),
        consumer_claim: "sub".into(),
    }
}

fn rewrite() -> Rewrite {
    Rewrite { strip_prefix: Some("/products".into()), add_prefix: Some("/v2".into()), host: None }
}

fn pages() -> Arc<ErrorPages> {
    Arc::new(ErrorPages { text: Some("Something is wrong.".into()), ..ErrorPages::default() })
}

fn maintenance(enabled: bool) -> Maintenance {
    let allow = vec!["10.0.0.0/8".parse().expect("a network")];
    Maintenance { enabled, allow, retry_after: Duration::from_secs(60), text: None }
}

/// `percent`: at 1 the request's id is in no such share.
fn fault(percent: u8, abort: Option<u16>) -> Fault {
    Fault { matches: Vec::new(), percent, delay: Some(Duration::from_millis(1)), abort }
}

fn mirror(percent: u8) -> Mirror {
    Mirror {
        to: MirrorTarget::Version(VersionId::parse("v2").expect("a version")),
        matches: Vec::new(),
        percent,
        max_body_bytes: Mirror::DEFAULT_MAX_BODY_BYTES,
        max_in_flight: Mirror::DEFAULT_MAX_IN_FLIGHT,
    }
}

fn edits() -> HeaderEdits {
    let value = |variable| HeaderValue(vec![Piece::Text("a ".into()), Piece::Variable(variable)]);
    HeaderEdits {
        set: vec![
            ("X-Client".into(), value(Variable::ClientIp)),
            ("X-Host".into(), value(Variable::Host)),
            ("X-Path".into(), value(Variable::Path)),
        ],
        add: Vec::new(),
        remove: vec!["X-Debug".into()],
    }
}
