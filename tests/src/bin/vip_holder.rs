//! A gateway as far as its kernel sees one: holds virtual IPs on `eth0` until it is ended, with a guard.
//!
//! `vip_holder hold LEASE_MS IP...` prints the guard's pid when it holds; a line on standard input dismisses the guard
//! and ends it. `vip_holder guard IP...` is the guard. `vip_holder check` says what it may not do.

use std::error::Error;
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vip::net::{
    Addresses, Announcer, Fence, Guard, Interface, Line, Orders, missing_capabilities, stand_guard,
};

const TABLE: &str = "sluice_vip";
const INTERFACE: &str = "eth0";
/// Longer than any test: what removes them is not the kernel.
const LIFETIME: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("hold") => {
            let lease = Duration::from_millis(arguments.next().ok_or("no lease")?.parse()?);
            hold(lease, &addresses(arguments)?).await
        }
        Some("guard") => {
            let vips = addresses(arguments)?;
            let (interface, table) = (INTERFACE.to_owned(), Some(TABLE.to_owned()));
            let removed = stand_guard(&Orders { interface, table, vips }).await?;
            eprintln!("removed {removed:?}");
            Ok(())
        }
        Some("check") => {
            for capability in missing_capabilities()? {
                println!("{capability}");
            }
            let interface = Interface::find(INTERFACE)?;
            let ip = "10.77.0.200".parse()?;
            let tried = [
                Fence::install(TABLE, &[ip]).err(),
                Addresses::open()?.put(&interface, ip, LIFETIME).err(),
                Announcer::open(&interface).err(),
            ];
            tried.into_iter().flatten().for_each(|error| println!("{error}"));
            Ok(())
        }
        _ => Err("hold, guard or check".into()),
    }
}

fn addresses(arguments: impl Iterator<Item = String>) -> Result<Vec<IpAddr>, Box<dyn Error>> {
    Ok(arguments.map(|ip| ip.parse()).collect::<Result<_, _>>()?)
}

async fn hold(lease: Duration, vips: &[IpAddr]) -> Result<(), Box<dyn Error>> {
    let mut fence = Fence::install(TABLE, vips)?;
    let (interface, mut addresses) = (Interface::find(INTERFACE)?, Addresses::open()?);
    for ip in vips {
        addresses.put(&interface, *ip, LIFETIME)?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("guard").args(vips.iter().map(IpAddr::to_string));
    let guard = Guard::start(command, Line::new()?)?;
    let refresh = |fence: &mut Fence| {
        let until = Instant::now() + lease;
        fence.refresh(&vips.iter().map(|ip| (*ip, until)).collect::<Vec<_>>())
    };
    // Whoever reads the number may have the guard dismissed at once: by then the fence is open.
    refresh(&mut fence)?;
    println!("{}", guard.pid().ok_or("the guard has ended")?);
    let mut turns = tokio::time::interval(lease / 6);
    let (said, mut dismissed) = oneshot::channel();
    std::thread::spawn(move || {
        // Also at the end of the input.
        std::io::stdin().read_line(&mut String::new()).ok();
        said.send(()).ok();
    });
    loop {
        tokio::select! {
            _ = turns.tick() => refresh(&mut fence)?,
            _ = &mut dismissed => {
                guard.dismiss().await?;
                return Ok(());
            }
        }
    }
}
