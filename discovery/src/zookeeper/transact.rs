//! Changing several nodes in one transaction, each under its condition. What `write.rs` says of versions holds here too.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use zookeeper_client::{Client, Error, MultiWriteResult, MultiWriter, Stat};

use super::Acl;
use super::node::{is_entry, parent_path, unsigned};
use super::write::{Failure, Target, check, create_directory, did_nothing};
use crate::registry::{Key, Lifetime, RegistryError, Step};
use crate::remote::MAX_ATTEMPTS;

/// Several nodes, and how far a change of them has come.
#[derive(Debug)]
pub(super) struct Targets<'s> {
    steps: &'s [Step],
    targets: Vec<Target>,
    acl: Acl,
    sent: AtomicBool,
    /// Which one was not as expected.
    culprit: AtomicUsize,
}

/// What an operation's result has to show.
enum Shown<'f> {
    Nothing,
    Created,
    /// The node that was there.
    Set(&'f Stat),
}

impl<'s> Targets<'s> {
    pub(super) fn new(steps: &'s [Step], path: impl Fn(&Key) -> String, acl: Acl) -> Self {
        let target = |step: &Step| Target::new(&step.key, path(&step.key), acl);
        Self {
            steps,
            targets: steps.iter().map(target).collect(),
            acl,
            sent: AtomicBool::new(false),
            culprit: AtomicUsize::new(0),
        }
    }

    /// In the words of the trait.
    pub(super) fn explain(&self, doing: String, failure: Failure) -> RegistryError {
        match failure {
            Failure::Conflict(expected) => {
                let key = self.steps[self.culprit.load(Ordering::Relaxed)].key.clone();
                RegistryError::Conflict { key, expected }
            }
            failure => RegistryError::Failed {
                doing,
                may_have_happened: self.sent.load(Ordering::Relaxed),
                source: Box::new(failure),
            },
        }
    }

    /// Returns the zxid of the transaction, or of the newest of the nodes where there was nothing to do.
    pub(super) async fn change(&self, client: &Client) -> Result<u64, Failure> {
        for _ in 0..MAX_ATTEMPTS {
            let found = self.look(client).await?;
            self.make_room(client, &found).await?;
            match self.commit(client, &found).await {
                Err(Failure::Client(error)) if did_nothing(&error) => {
                    self.sent.store(false, Ordering::Relaxed);
                    match error {
                        // Somebody was quicker: look again.
                        Error::NoNode | Error::NodeExists | Error::BadVersion | Error::NotEmpty => {}
                        error => return Err(error.into()),
                    }
                }
                outcome => return outcome,
            }
        }
        Err(Failure::Contended)
    }

    /// All nodes as they are, each as expected.
    async fn look(&self, client: &Client) -> Result<Vec<Option<Stat>>, Failure> {
        let found = self.targets.iter().map(|target| target.stat(client));
        let found = futures::future::try_join_all(found).await?;
        for (at, (step, stat)) in self.steps.iter().zip(&found).enumerate() {
            check(step.expect, stat.as_ref()).inspect_err(|_| self.culprit.store(at, Ordering::Relaxed))?;
        }
        Ok(found)
    }

    /// The nodes above those that are to be created: structure, which no reader sees.
    async fn make_room(&self, client: &Client, found: &[Option<Stat>]) -> Result<(), Failure> {
        let created = self.targets.iter().zip(self.steps).zip(found);
        let created = created.filter(|((_, step), found)| step.value.is_some() && found.is_none());
        let parents: BTreeSet<_> = created.map(|((target, _), _)| parent_path(target.path())).collect();
        for parent in parents {
            create_directory(client, parent, self.acl).await?;
        }
        Ok(())
    }

    async fn commit(&self, client: &Client, found: &[Option<Stat>]) -> Result<u64, Failure> {
        let mut writer = client.new_multi_writer();
        let mut shown = Vec::new();
        for ((target, step), found) in self.targets.iter().zip(self.steps).zip(found) {
            self.add(&mut writer, &mut shown, target.path(), step, found.as_ref())?;
        }
        if shown.is_empty() {
            let newest = found.iter().flatten().map(|stat| unsigned(stat.mzxid)).max();
            return Ok(newest.unwrap_or(0));
        }
        self.sent.store(true, Ordering::Relaxed);
        let results = writer.commit().await.map_err(Error::from)?;
        let mut zxid = None;
        for (result, shown) in results.iter().zip(&shown) {
            match (result, shown) {
                (MultiWriteResult::SetData { stat }, Shown::Set(former)) if stat.czxid != former.czxid => {
                    return Err(Failure::MadeAgain);
                }
                (MultiWriteResult::SetData { stat }, _) => zxid = Some(stat.mzxid),
                // ZOOKEEPER-4667: some servers leave the stat out.
                (MultiWriteResult::Create { stat, .. }, Shown::Created) if !stat.is_invalid() => {
                    zxid = Some(stat.mzxid);
                }
                _ => {}
            }
        }
        match zxid {
            Some(zxid) => Ok(unsigned(zxid)),
            None => self.zxid_of_written(client).await,
        }
    }

    fn add<'f>(
        &self,
        writer: &mut MultiWriter<'_>,
        shown: &mut Vec<Shown<'f>>,
        path: &str,
        step: &Step,
        found: Option<&'f Stat>,
    ) -> Result<(), Error> {
        let persistent = self.acl.options(Lifetime::Persistent);
        match (&step.value, found) {
            (Some(value), None) => {
                writer.add_create(path, value, &persistent)?;
                shown.push(Shown::Created);
            }
            (Some(value), Some(stat)) if stat.ephemeral_owner == 0 => {
                writer.add_set_data(path, value, Some(stat.version))?;
                shown.push(Shown::Set(stat));
            }
            // A node cannot change its lifetime.
            (Some(value), Some(stat)) => {
                writer.add_delete(path, Some(stat.version))?;
                writer.add_create(path, value, &persistent)?;
                shown.extend([Shown::Nothing, Shown::Created]);
            }
            (None, Some(stat)) if is_entry(stat) => {
                // A deletion's answer has no stat. A directory of other keys only loses its value.
                writer.add_set_data(path, &[], Some(stat.version))?;
                shown.push(Shown::Set(stat));
                if stat.num_children == 0 {
                    writer.add_delete(path, Some(stat.version.wrapping_add(1)))?;
                    shown.push(Shown::Nothing);
                }
            }
            (None, _) => {}
        }
        Ok(())
    }

    async fn zxid_of_written(&self, client: &Client) -> Result<u64, Failure> {
        let written = self.targets.iter().zip(self.steps).find(|(_, step)| step.value.is_some());
        let Some((target, _)) = written else { return Err(Failure::MadeAgain) };
        let stat = target.stat(client).await?.ok_or(Failure::MadeAgain)?;
        Ok(unsigned(stat.mzxid))
    }
}
