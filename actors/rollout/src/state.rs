use serde::{Deserialize, Serialize};

/// Where a group is: `Leased → Generating → Verifying → Ready → Batched → Trained | Dropped`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupState {
    /// Issued; no token sampled yet.
    Leased,
    /// Its first token is sampled.
    Generating,
    /// All answers are there and wait for verdicts.
    Verifying,
    /// Mixed, in the buffer.
    Ready,
    /// In a batch that is closed; trained with the completion of that step.
    Batched,
    /// The end: it taught.
    Trained,
    /// The other end.
    Dropped(DropReason),
}

impl GroupState {
    /// Whether the group is neither trained nor dropped.
    pub fn in_flight(self) -> bool {
        !matches!(self, Self::Trained | Self::Dropped(_))
    }
}

/// Why a group ended untrained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// All scores equal: nothing to learn. The prompt is consumed.
    Unmixed,
    /// Verdicts stayed void after all re-verifications. The prompt is consumed.
    Void,
    /// Its prompt does not fit the model's context. The prompt is consumed.
    TooLong,
    /// Too old to be trained. The prompt goes back.
    Stale,
    /// Expired while it ran (`replay.on_straggler = "drop"`). The prompt goes back.
    Straggler,
    /// Its generator died or missed the lease's deadline. The prompt goes back.
    Lost,
    /// Given up on request. The prompt goes back.
    Cancelled,
}

impl DropReason {
    /// Every reason, in the order of reports.
    pub const ALL: [Self; 7] =
        [Self::Unmixed, Self::Void, Self::TooLong, Self::Stale, Self::Straggler, Self::Lost, Self::Cancelled];

    /// Whether the prompt counts as used in this epoch; otherwise it returns to the front of the feed.
    pub fn consumes_prompt(self) -> bool {
        matches!(self, Self::Unmixed | Self::Void | Self::TooLong)
    }

    /// The label in files and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unmixed => "unmixed",
            Self::Void => "void",
            Self::TooLong => "too_long",
            Self::Stale => "stale",
            Self::Straggler => "straggler",
            Self::Lost => "lost",
            Self::Cancelled => "cancelled",
        }
    }
}
