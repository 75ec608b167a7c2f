//! The conditions under which there is never a second holder, each by its name.
//!
//! A machine that runs has all of them; no configuration reaches them. The model check takes one away at
//! a time and has to find two holders, which shows that each is needed and that the check would see.

/// Which conditions a machine heeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conditions {
    /// A lease counts from when the heartbeat or the write was sent, not from its answer.
    pub leases_count_from_sending: bool,
    /// A wait begins anew with every version that is received: this run may not know what an earlier one
    /// has granted.
    pub waits_count_from_versions: bool,
    /// A wait begins anew with every grant that is given.
    pub waits_count_from_grants: bool,
    /// Waits are longer than leases by what clocks and the fence may err.
    pub waits_cover_errors: bool,
    /// While the outcome of a write is unknown, the grantors of before are needed.
    pub unknown_writes_need_old_grantors: bool,
    /// While the outcome of a write is unknown, the grantors that it names are needed.
    pub unknown_writes_need_new_grantors: bool,
    /// Where a write of unknown outcome leads to registry mode, grants alone count for nothing.
    pub registry_mode_needs_writes: bool,
    /// Nothing is granted while a claim of one's own may still happen.
    pub no_grants_while_claiming: bool,
    /// A write whose outcome was unknown and which is found to have happened counts from its first sending.
    pub found_writes_count_from_sending: bool,
    /// A grant counts for the one heartbeat that it answers.
    pub grants_answer_one_heartbeat: bool,
    /// A grant counts for the run and the epoch that asked for it.
    pub grants_name_run_and_epoch: bool,
    /// The address is let go before the release is written.
    pub letting_go_precedes_release: bool,
    /// A release of unknown outcome is a release.
    pub unknown_releases_end_holding: bool,
    /// A holder in peer mode that has not written for `hold_max` lets go.
    pub hold_max_ends_holding: bool,
    /// Who is no grantor waits longer than `hold_max`.
    pub outsiders_wait_for_hold_max: bool,
    /// In registry mode the wait is that of the registry's lease.
    pub registry_mode_has_its_own_wait: bool,
    /// Another run of the same gateway is another holder.
    pub holder_is_one_run: bool,
    /// The end of one run says nothing of another one.
    pub endings_name_a_run: bool,
    /// What is received late, and is older than what is known, changes nothing.
    pub older_versions_are_ignored: bool,
    /// Every turn begins with the deadline.
    pub deadline_comes_first: bool,
}

impl Conditions {
    pub(crate) const ALL: Self = Self {
        leases_count_from_sending: true,
        waits_count_from_versions: true,
        waits_count_from_grants: true,
        waits_cover_errors: true,
        unknown_writes_need_old_grantors: true,
        unknown_writes_need_new_grantors: true,
        registry_mode_needs_writes: true,
        no_grants_while_claiming: true,
        found_writes_count_from_sending: true,
        grants_answer_one_heartbeat: true,
        grants_name_run_and_epoch: true,
        letting_go_precedes_release: true,
        unknown_releases_end_holding: true,
        hold_max_ends_holding: true,
        outsiders_wait_for_hold_max: true,
        registry_mode_has_its_own_wait: true,
        holder_is_one_run: true,
        endings_name_a_run: true,
        older_versions_are_ignored: true,
        deadline_comes_first: true,
    };
}
