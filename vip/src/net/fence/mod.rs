//! The fence: until when this host may answer for a virtual IP, kept by the kernel.
//!
//! Two nftables tables, `arp` and `inet`, drop what asks for or is sent to a virtual IP, and what claims to come
//! from one, unless the address is in a set of held ones. Elements of that set carry a timeout. Whatever happens to the
//! process, killed, stopped or starved, the kernel closes the fence in time; the addresses themselves are swept
//! away later.
//!
//! A timeout counts from when the kernel reads it, the lease from before. A process that is stopped between
//! looking at its clock and the system call would add all of that time. So each refresh first puts down a *token* that lives
//! for [`FRESHNESS`], then looks at the clock, and takes the token away in the same transaction that
//! sets the timeouts. When the token has expired the transaction fails as a whole. What a stop can add is
//! therefore [`FRESHNESS`] at most, and that much is taken off every timeout: **the fence never closes late**.
//!
//! A refresh replaces the element in one transaction, so a packet finds the old one or the new one.

mod batch;
mod dump;
mod rules;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::netlink;

use self::batch::{Batch, Kept};
use self::dump::Contents;
use super::error::{Capability, Error, Result};
use super::netlink::{Rejection, Socket};

/// How old a look at the clock may be when the kernel acts on it. Two ticks of a kernel with HZ=100, and
/// more than a healthy process needs by a factor of a hundred. A lease loses this much of its use.
pub const FRESHNESS: Duration = Duration::from_millis(20);
/// What a rebuild may take longer for each address, fenced or held: several times of what a slow machine takes.
const FRESHNESS_EACH: Duration = Duration::from_micros(40);
/// So many addresses are refreshed in one transaction, which is then over long before its token expires.
const REFRESHED_AT_ONCE: usize = 256;
/// As often a refresh is tried when it comes too late; then the machine is in no state to hold anything.
const ATTEMPTS: usize = 3;
/// Addresses that one fence can have: what a batch of all of them takes stays far below the socket's limit.
pub const MOST_ADDRESSES: usize = 4096;
const DOING: &str = "setting up the nftables fence";

/// An address and the moment until which it is held.
pub type Hold = (IpAddr, Instant);

/// The fence of this network namespace. Dropping it leaves everything as it is: what is held expires, and
/// what is fenced stays fenced.
#[derive(Debug)]
pub struct Fence {
    socket: Socket,
    table: Arc<str>,
    vips: Vec<IpAddr>,
    /// What the kernel shows of a fence that nobody has touched.
    pristine: Option<Contents>,
    token: u32,
}

impl Fence {
    /// Fences all of `vips` off, whatever an earlier process left in tables of the name `table`. Nothing is held.
    ///
    /// # Errors
    /// The system's; a missing CAP_NET_ADMIN or nf_tables is named.
    pub fn install(table: &str, vips: &[IpAddr]) -> Result<Self> {
        let mut fence = Self::attach(table)?;
        fence.protect(vips, &[])?;
        Ok(fence)
    }

    /// The fence that another process has installed, to [`Fence::close`] it.
    ///
    /// # Errors
    /// As [`Fence::install`].
    pub fn attach(table: &str) -> Result<Self> {
        let socket =
            Socket::open(Some(netlink::NETFILTER), 0).map_err(|error| match error.raw_os_error() {
                Some(libc::EPROTONOSUPPORT) => no_nftables("netlink", "nfnetlink", error),
                _ => Error::of(DOING, Capability::NetAdmin, error),
            })?;
        socket.allow_long_messages().map_err(|error| Error::of(DOING, Capability::NetAdmin, error))?;
        let (vips, pristine) = (Vec::new(), None);
        Ok(Self { socket, table: table.into(), vips, pristine, token: first_token() })
    }

    /// Fences exactly `vips`, of which those in `holds` are let through. One transaction replaces everything,
    /// without a moment in which what is held is closed or what is not held is open.
    ///
    /// # Errors
    /// As [`Fence::install`]; nothing has changed then.
    pub fn protect(&mut self, vips: &[IpAddr], holds: &[Hold]) -> Result<()> {
        if vips.len() > MOST_ADDRESSES {
            return Err(Error::TooMany { count: vips.len(), most: MOST_ADDRESSES });
        }
        self.vips = vips.to_vec();
        self.vips.sort_unstable();
        self.vips.dedup();
        self.rebuild(holds)
    }

    /// Lets each of `holds` through until its moment, at most [`FRESHNESS`] less; a moment that has passed closes.
    /// Addresses that are not named keep what they have. Mends a fence that has been deleted.
    ///
    /// # Errors
    /// [`Error::Stalled`] when the process was stopped meanwhile, at each attempt; then `holds` are closed. With the
    /// system's errors what is held expires when it would have, at the latest.
    pub fn refresh(&mut self, holds: &[Hold]) -> Result<()> {
        for some in holds.chunks(REFRESHED_AT_ONCE) {
            match self.timed(some, FRESHNESS, |batch, kept| batch.replace(kept)) {
                // `nft flush ruleset`, for instance.
                Err(error) if error.errno() == Some(Errno::NOENT) => return self.rebuild(holds),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Lets none of `ips` through any more, as of now. Where there is no fence there is nothing to do.
    ///
    /// # Errors
    /// The system's; a missing CAP_NET_ADMIN is named.
    pub fn close(&mut self, ips: &[IpAddr]) -> Result<()> {
        if ips.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::begin(self.socket.requests(), &self.table);
        batch.close(ips);
        match self.commit(batch)? {
            Ok(()) => Ok(()),
            Err(rejected) if rejected.iter().all(|rejected| rejected.errno == Errno::NOENT) => Ok(()),
            Err(rejected) => Err(refused(&rejected)),
        }
    }

    /// Compares what is there with what should be, and puts up everything anew where somebody has changed it: whether
    /// that was so. `holds` is all that is held.
    ///
    /// # Errors
    /// As [`Fence::refresh`].
    pub fn reconcile(&mut self, holds: &[Hold]) -> Result<bool> {
        let found = self.contents()?;
        let intact = self.pristine.as_ref() == Some(&found) && found.holds_only(holds);
        if !intact {
            self.rebuild(holds)?;
        }
        Ok(!intact)
    }

    /// Removes the tables: nothing is fenced any more. For a gateway that has no virtual IPs.
    ///
    /// # Errors
    /// The system's; a missing CAP_NET_ADMIN is named.
    pub fn remove(&mut self) -> Result<()> {
        let mut batch = Batch::begin(self.socket.requests(), &self.table);
        batch.remove();
        self.commit(batch)?.map_err(|rejected| refused(&rejected))
    }

    fn rebuild(&mut self, holds: &[Hold]) -> Result<()> {
        let vips = std::mem::take(&mut self.vips);
        let count = (vips.len() + holds.len()) as u32;
        let allowance = FRESHNESS + FRESHNESS_EACH * count;
        let outcome = self.timed(holds, allowance, |batch, kept| batch.build(&vips, kept));
        self.vips = vips;
        outcome?;
        self.pristine = Some(self.contents()?);
        Ok(())
    }

    fn contents(&mut self) -> Result<Contents> {
        dump::read(&mut self.socket, &self.table)
            .map_err(|error| Error::of(DOING, Capability::NetAdmin, error))
    }

    /// Commits what `write` makes of `holds`, unless the clock was looked at longer than `allowance` ago.
    fn timed(
        &mut self,
        holds: &[Hold],
        allowance: Duration,
        write: impl Fn(&mut Batch, &[Kept]),
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            self.token = self.token.wrapping_add(1);
            let mut batch = Batch::begin(self.socket.requests(), &self.table);
            batch.put_token(self.token, allowance);
            self.commit(batch)?.map_err(|rejected| refused(&rejected))?;

            let now = Instant::now();
            let kept: Vec<Kept> = holds.iter().map(|hold| keep(hold, now, allowance)).collect();
            let mut batch = Batch::begin(self.socket.requests(), &self.table);
            // The token goes last: what was read before it had been read in time.
            write(&mut batch, &kept);
            let token = batch.take_token(self.token);
            match self.commit(batch)? {
                Ok(()) if now.elapsed() <= allowance => return Ok(()),
                // It came late between two steps of one transaction, which no token can see. The next attempt
                // replaces it, or the last one takes it back.
                Ok(()) => {}
                Err(rejected) if rejected.iter().all(|one| one.sequence == token) => continue,
                Err(rejected) => return Err(refused(&rejected)),
            }
        }
        let ips: Vec<IpAddr> = holds.iter().map(|(ip, _)| *ip).collect();
        self.close(&ips)?;
        Err(Error::Stalled { doing: "refreshing the nftables fence" })
    }

    fn commit(&mut self, batch: Batch) -> Result<std::result::Result<(), Vec<Rejection>>> {
        let (requests, last) = batch.end();
        self.socket.commit(&requests, last).map_err(|error| Error::of(DOING, Capability::NetAdmin, error))
    }
}

/// A hold as a time to live: `None` closes.
fn keep((ip, until): &Hold, now: Instant, allowance: Duration) -> Kept {
    let left = until.saturating_duration_since(now).saturating_sub(allowance);
    // Less than a millisecond is nothing to the kernel, and nothing means for ever.
    (*ip, (left >= Duration::from_millis(1)).then_some(left))
}

/// Tokens of two processes that have the same fence must differ: one taking away the other's says nothing of time.
fn first_token() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    std::process::id().rotate_left(16) ^ now.subsec_nanos()
}

fn refused(rejected: &[Rejection]) -> Error {
    let errno = rejected.first().map_or(Errno::INVAL, |rejected| rejected.errno);
    let source = io::Error::from(errno);
    match errno {
        Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT => {
            no_nftables("the families arp and inet, sets and fib", "nf_tables, nft_fib_inet", source)
        }
        _ => Error::of(DOING, Capability::NetAdmin, source),
    }
}

fn no_nftables(missing: &'static str, module: &'static str, source: io::Error) -> Error {
    Error::NoNftables { doing: DOING, missing, module, source }
}
