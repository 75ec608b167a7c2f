//! Name and password (RFC 7617), against bcrypt hashes.
//!
//! A hash is slow by design, so a worker never computes one: it asks the cache of what was verified
//! lately, and what that does not know is computed on another thread while the request waits.

mod cache;
mod turns;
mod verify;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use topology::AppId;
use topology::filters::BasicAuth as Settings;

pub use self::cache::Cache;
pub use self::verify::{Verdict, verify};
use super::compile::{Compiling, Keeps};
use super::sources::Source;
use super::{Asked, Changes, Decision, RequestFilter, push_line, scope};
use crate::reason::Reason;

#[derive(Debug)]
pub struct BasicAuth {
    app: AppId,
    settings: Settings,
    inline: Users,
    file: Option<Arc<Source<Users>>>,
    cache: Arc<Cache>,
}

/// Hashes by name.
#[derive(Debug, Default)]
pub struct Users {
    hashes: HashMap<Arc<str>, Arc<str>>,
    /// How many hashes there are of each cost.
    costs: [u32; COSTS],
}

/// One more than the largest cost that is read.
const COSTS: usize = 32;

impl FromIterator<(Arc<str>, Arc<str>)> for Users {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(users: I) -> Self {
        let hashes: HashMap<_, _> = users.into_iter().collect();
        let mut costs = [0; COSTS];
        let cost = |hash: &Arc<str>| hash.split('$').nth(2)?.parse::<usize>().ok();
        for cost in hashes.values().filter_map(cost).filter(|cost| *cost < COSTS) {
            costs[cost] += 1;
        }
        Self { hashes, costs }
    }
}

/// What a client sent, and what it has to fit.
#[derive(Debug)]
pub struct Claim {
    name: Arc<str>,
    password: Box<[u8]>,
    /// Of nobody, where the name is unknown.
    hash: Arc<str>,
    is_known: bool,
}

impl Keeps for BasicAuth {
    type Settings = Settings;

    fn among(filter: &RequestFilter) -> Option<&Arc<Self>> {
        if let RequestFilter::BasicAuth(basic) = filter { Some(basic) } else { None }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn compile(settings: &Settings, former: Option<&Self>, with: Compiling<'_>) -> Self {
        let in_force = former.and_then(|former| former.file.as_ref()?.load_full());
        let file = settings.file.as_ref();
        let file = file.map(|file| with.sources.open(with.app, file, read_users, in_force));
        // What was verified is told apart by its hash too, so the cache may stay.
        let cache = former.map_or_else(Arc::default, |former| former.cache.clone());
        // The reader has checked each.
        let inline = settings.users.iter().filter_map(|line| entry(line).ok()).collect();
        Self { app: with.app.clone(), settings: settings.clone(), inline, file, cache }
    }
}

impl BasicAuth {
    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        if !scope::includes(&self.settings.scope, asked) {
            return Decision::Pass;
        }
        match self.claim(asked) {
            Ok(claim) => match self.cache.find(&claim, asked.now) {
                Some(verdict) => self.conclude(&claim, verdict, changes),
                None => Decision::Wait,
            },
            Err(reason) => self.challenge(reason, changes),
        }
    }

    /// As [`Self::decide`], once the password was verified.
    pub fn conclude(&self, claim: &Claim, verdict: Verdict, changes: &mut Changes) -> Decision {
        match verdict {
            Verdict::Right if claim.is_known => {
                let name = self.settings.consumer_header.as_bytes();
                push_line(name, claim.name.as_bytes(), &mut changes.request);
                changes.consumer = Some(claim.name.clone());
                Decision::Pass
            }
            Verdict::Right | Verdict::Wrong => self.challenge(Reason::CredentialsInvalid, changes),
            Verdict::Busy => Decision::Refuse(Reason::AuthenticationBusy),
        }
    }

    /// What the client claims to be.
    ///
    /// # Errors
    /// Why there is nothing to verify.
    pub fn claim(&self, asked: &Asked<'_>) -> Result<Claim, Reason> {
        let (name, password) =
            asked.field(Self::PROOF).and_then(credentials).ok_or(Reason::CredentialsMissing)?;
        let file = self.file.as_ref().map(|file| file.load());
        let listed = match &file {
            None => None,
            Some(users) => Some(users.as_ref().ok_or(Reason::FilterUnavailable)?),
        };
        let find = |users: &Users| users.hashes.get_key_value(&*name).map(owned);
        let known = find(&self.inline).or_else(|| listed.and_then(|users| find(users)));
        let is_known = known.is_some();
        // An unknown name takes as long as a wrong password.
        let (name, hash) = known.unwrap_or_else(|| {
            let hash = stand_in(&name, [Some(&self.inline), listed.map(|users| &**users)]);
            (name.into(), hash)
        });
        Ok(Claim { name, password, hash, is_known })
    }

    /// Whose turn it is when its passwords are verified.
    pub fn app(&self) -> &AppId {
        &self.app
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    fn challenge(&self, reason: Reason, changes: &mut Changes) -> Decision {
        if reason.status() == 401 {
            let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.settings.realm);
            push_line(b"WWW-Authenticate", challenge.as_bytes(), &mut changes.always);
        }
        Decision::Refuse(reason)
    }

    /// Where the client proves who it is.
    pub(super) const PROOF: &str = "Authorization";

    pub(super) fn describe(&self) -> String {
        let listed =
            self.file.as_ref().map_or(0, |file| file.load().as_ref().map_or(0, |users| users.hashes.len()));
        format!("{} users{}", self.inline.hashes.len() + listed, scope::describe(&self.settings.scope))
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.file.as_ref()?.problem()
    }
}

/// Where there is no user at all.
const USUAL_COST: usize = 10;

/// A hash that no password is known for, for a name that nobody has. Its cost is one of the app's own, each as
/// often as the app has it, and of one name always the same: how long an answer takes tells of no name whether
/// somebody has it.
fn stand_in(name: &str, users: [Option<&Users>; 2]) -> Arc<str> {
    /// Nobody outside can tell which cost a name would get.
    static NAMES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let count = |cost: usize| users.iter().flatten().map(|users| u64::from(users.costs[cost])).sum::<u64>();
    let total: u64 = (0..COSTS).map(count).sum();
    let mut left = NAMES.hash_one(name).checked_rem(total).unwrap_or(0);
    let cost = (0..COSTS).find(|cost| {
        let here = count(*cost);
        let is_it = left < here;
        left = left.saturating_sub(here);
        is_it
    });
    nobody(cost.unwrap_or(USUAL_COST)).into()
}

fn nobody(cost: usize) -> String {
    format!("$2b${cost:02}$KqvU1oYbq0Yp6eW9n1zXVu2MMrIv6/oLjdv9uun0Rwd9UWJhPb6Xm")
}

fn owned((name, hash): (&Arc<str>, &Arc<str>)) -> (Arc<str>, Arc<str>) {
    (name.clone(), hash.clone())
}

/// Names are UTF-8, as the challenge asks for; one that is not is nobody's.
fn credentials(value: &[u8]) -> Option<(String, Box<[u8]>)> {
    let (scheme, encoded) = value.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = memchr::memchr(b':', &decoded)?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].into()))
}

fn entry(line: &str) -> Result<(Arc<str>, Arc<str>), String> {
    discovery::spec::filters::user(line).map(|(name, hash)| (name.into(), hash.into()))
}

/// As htpasswd writes them; `#` begins a comment.
fn read_users(text: &[u8]) -> Result<Users, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is no UTF-8".to_owned())?;
    let lines = text.lines().enumerate().map(|(at, line)| (at, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let read = |(at, line)| entry(line).map_err(|why| format!("line {}: {why}", at + 1));
    lines.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_one_name_and_whatever_follows() {
        let read =
            |text: &str| credentials(text.as_bytes()).map(|(name, password)| (name, password.into_vec()));
        let wanted = Some(("Aladdin".to_owned(), b"open:sesame".to_vec()));
        assert_eq!(read(&format!("basic {}", STANDARD.encode("Aladdin:open:sesame"))), wanted);
        for bad in ["Basic", "Basic !", "Bearer QTpi", &format!("Basic {}", STANDARD.encode("nocolon"))] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_hashes_that_take_a_bounded_time_are_read() {
        let line = "bob:$2y$05$bvIG6Lmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe";
        assert_eq!(read_users(line.as_bytes()).unwrap().hashes.len(), 1);
        for (bad, wanted) in [
            ("bob:$apr1$x$y", "line 1: bob: only bcrypt hashes are taken"),
            ("bob:{SHA}x", "only bcrypt"),
            (&line.replace("$05$", "$31$"), "a cost of 31 takes too long"),
            ("bob", "is no user"),
        ] {
            let why = read_users(bad.as_bytes()).unwrap_err();
            assert!(why.contains(wanted), "{why}");
        }
        assert!(entry(&format!("x:{}", nobody(4))).is_ok(), "what stands for nobody is verified like others");
    }

    #[test]
    fn nobody_costs_what_somebody_of_the_same_app_does() {
        let of = |costs: &[usize]| -> Users {
            let user = |(at, cost): (usize, &usize)| (at.to_string().into(), nobody(*cost).into());
            costs.iter().enumerate().map(user).collect()
        };
        let cost = |name: &str, inline: &Users, file: Option<&Users>| -> usize {
            stand_in(name, [Some(inline), file]).split('$').nth(2).unwrap().parse().unwrap()
        };
        let (none, five, mixed) = (of(&[]), of(&[5, 5]), of(&[12]));
        assert_eq!((cost("x", &none, None), cost("x", &five, None)), (USUAL_COST, 5));
        assert_eq!(cost("x", &none, Some(&mixed)), 12);
        let seen = |wanted| {
            let names = (0..300).map(|at| at.to_string());
            names.filter(|name| cost(name, &five, Some(&mixed)) == wanted).count()
        };
        assert!((150..250).contains(&seen(5)) && seen(5) + seen(12) == 300, "two of three");
        assert_eq!(
            cost("x", &five, Some(&mixed)),
            cost("x", &five, Some(&mixed)),
            "asking again tells nothing"
        );
    }
}
