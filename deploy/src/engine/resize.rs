//! Other limits for instances where they run: room on their host first, then the limits, then the record.

use topology::InstanceId;

use super::decide::Draft;
use crate::model::{Digest, Ledger, Reservation, Share};

/// What a host has said to limits: for which release, and why not.
pub(super) type Resized = (Digest, Result<(), String>);

impl Draft<'_> {
    /// Takes in what hosts have said.
    pub(super) fn take_resized(&mut self) {
        let ids: Vec<InstanceId> = self.records.keys().cloned().collect();
        for id in ids {
            let said = self.matter.resized.get(&id);
            let Some(record) = self.records.get_mut(&id) else { continue };
            let Some((target, outcome)) = said.filter(|(target, _)| record.resizing.as_ref() == Some(target))
            else {
                continue;
            };
            record.resizing = None;
            let text = match outcome {
                Ok(()) => {
                    record.release = target.clone();
                    "has other limits, where it runs".to_owned()
                }
                Err(why) => format!("cannot have other limits where it runs: {why}; it is replaced"),
            };
            let (host, release) = (record.host.clone(), record.release.clone());
            self.changed.insert(id.clone());
            self.decision.events.push((Some(id.clone()), text));
            if let Some(resources) = self.spec(&release).map(|spec| spec.resources) {
                let owner = self.owner(&id);
                if let Some(share) = self.ledger(&host).given.get_mut(&owner) {
                    *share = Share { memory: resources.memory, cpu: resources.cpu, ..*share };
                }
            }
        }
    }

    /// Begins with those whose hosts have the room, and remembers of the others that they have not.
    pub(super) fn resize(&mut self, chosen: &[InstanceId], most: usize) {
        let Some(target) = self.state.receiving_side().cloned() else { return };
        let Some(wanted) = self.spec(&target).map(|spec| spec.resources) else { return };
        for id in chosen {
            let Some(record) = self.records.get(id) else { continue };
            if self.changed.len() >= most {
                return;
            }
            if record.resizing.as_ref() == Some(&target) || self.changed.contains(id) {
                continue;
            }
            let host_id = record.host.clone();
            let Some(host) = self.matter.world.hosts.get(&host_id) else { continue };
            let (memory, cpu) = (host.memory, host.cpu);
            let owner = self.owner(id);
            let fits = reserve(self.ledger(&host_id), &owner, wanted, (memory, cpu));
            match fits {
                Ok(()) => {
                    if let Some(record) = self.records.get_mut(id) {
                        record.resizing = Some(target.clone());
                    }
                    self.changed.insert(id.clone());
                }
                Err(why) => self.decision.unfit.push((id.clone(), (target.clone(), Err(why.to_owned())))),
            }
        }
    }

    fn owner(&self, id: &InstanceId) -> String {
        format!("{}/{id}", self.matter.app)
    }
}

/// While it is not known what holds, the larger of both is given out.
fn reserve(
    ledger: &mut Ledger,
    owner: &str,
    wanted: Reservation,
    (memory, cpu): (u64, u32),
) -> Result<(), &'static str> {
    let Some(share) = ledger.given.get(owner).copied() else { return Ok(()) };
    let larger =
        Share { memory: share.memory.max(wanted.memory), cpu: share.cpu.max(wanted.cpu), port: share.port };
    let free = memory.saturating_sub(ledger.memory());
    if larger.memory - share.memory > free {
        return Err("its host has not so much memory free");
    }
    if larger.cpu - share.cpu > cpu.saturating_sub(ledger.cpu()) {
        return Err("its host has not so many processors free");
    }
    ledger.given.insert(owner.to_owned(), larger);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_before_and_given_back_after() {
        let mut ledger = Ledger::default();
        ledger.given.insert("shop/a".to_owned(), Share { memory: 100, cpu: 500, port: 1 });
        ledger.given.insert("shop/b".to_owned(), Share { memory: 100, cpu: 500, port: 2 });
        let wants = |memory, cpu| Reservation { memory, cpu, ..Reservation::default() };
        assert!(reserve(&mut ledger, "shop/a", wants(201, 100), (300, 2000)).is_err());
        assert!(reserve(&mut ledger, "shop/a", wants(100, 1501), (300, 2000)).is_err());
        assert_eq!(ledger.given["shop/a"], Share { memory: 100, cpu: 500, port: 1 }, "nothing was taken");
        reserve(&mut ledger, "shop/a", wants(200, 100), (300, 2000)).unwrap();
        assert_eq!(ledger.given["shop/a"], Share { memory: 200, cpu: 500, port: 1 });
    }
}
