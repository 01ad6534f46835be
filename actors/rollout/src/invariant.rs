//! What must always hold. Each rule has an id and one sentence; [`check_invariant!`](crate::check_invariant) panics in
//! tests and debug builds, and logs an error and counts it in a release build, where the checks stay on.

use std::fmt;

/// A rule that must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// Every issued group is trained, dropped or in flight, and only one of these.
    LedgerBalances,
    /// A group follows the order of states; in particular it is trained at most once.
    StateOrder,
    /// No group is trained staler than η.
    Staleness,
    /// After a batch is closed at version v, the untrained groups that started at version j or earlier number at most
    /// (j + η − v)·B, for every j.
    ClosingRule,
    /// The lease at position N carries min_version = max(0, ⌊N/B⌋ − η), and N never exceeds max_steps·B.
    Admission,
    /// An engine's channel is never full: its capacity is the leases that can reach that engine.
    EngineCredit,
    /// Log-probs, versions and tokens of a completion have one length.
    CompletionShape,
}

impl Invariant {
    /// Every rule.
    pub const ALL: [Self; 7] = [
        Self::LedgerBalances,
        Self::StateOrder,
        Self::Staleness,
        Self::ClosingRule,
        Self::Admission,
        Self::EngineCredit,
        Self::CompletionShape,
    ];

    /// The id under which logs, metrics and ARCHITECTURE.md name the rule.
    pub fn id(self) -> &'static str {
        match self {
            Self::LedgerBalances => "L-1",
            Self::StateOrder => "L-2",
            Self::Staleness => "S-1",
            Self::ClosingRule => "S-2",
            Self::Admission => "A-1",
            Self::EngineCredit => "E-1",
            Self::CompletionShape => "C-1",
        }
    }
}

/// Called by the macro when a rule is broken.
#[doc(hidden)]
pub fn broken(invariant: Invariant, detail: fmt::Arguments<'_>) {
    crate::telemetry::invariant_broken(invariant.id());
    tracing::error!(invariant = invariant.id(), "broken invariant {}: {detail}", invariant.id());
    if cfg!(debug_assertions) || std::env::var_os("COUNTERPOINT_STRICT").is_some() {
        panic!("broken invariant {}: {detail}", invariant.id());
    }
}

/// `check_invariant!(Invariant::StateOrder, condition, "format", args)`: see [`Invariant`].
#[macro_export]
macro_rules! check_invariant {
    ($invariant:expr, $condition:expr, $($detail:tt)+) => {
        if !$condition {
            $crate::invariant::broken($invariant, format_args!($($detail)+));
        }
    };
}
