//! Texts of the catalogue that are chosen by a value: what an action came to, states, causes, kinds of discrepancies.

use crate::texts::Texts;
use domain::PaymentStatus;
use domain::ports::Cause;
use domain::settlement::DiscrepancyKind;

/// What a page says once after an action: a word in its address, so that nothing has to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    Paid,
    Failed,
    StillWaiting,
    NothingToAsk,
    TooSoon,
    NotAsked,
    NotExamined,
    Parked,
    Resolved,
    ResolvedBefore,
    CircuitSet,
}

impl Notice {
    pub(super) const ALL: [Self; 11] = [
        Self::Paid,
        Self::Failed,
        Self::StillWaiting,
        Self::NothingToAsk,
        Self::TooSoon,
        Self::NotAsked,
        Self::NotExamined,
        Self::Parked,
        Self::Resolved,
        Self::ResolvedBefore,
        Self::CircuitSet,
    ];

    /// As it stands in the address.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::StillWaiting => "waiting",
            Self::NothingToAsk => "ended",
            Self::TooSoon => "too-soon",
            Self::NotAsked => "not-asked",
            Self::NotExamined => "not-examined",
            Self::Parked => "parked",
            Self::Resolved => "resolved",
            Self::ResolvedBefore => "resolved-before",
            Self::CircuitSet => "circuit-set",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|notice| notice.as_str() == text)
    }

    /// What was wanted has happened.
    pub(super) const fn is_good(self) -> bool {
        matches!(self, Self::Paid | Self::Failed | Self::NothingToAsk | Self::Resolved | Self::CircuitSet)
    }

    pub(super) fn text(self, t: Texts) -> &'static str {
        t.say(&format!("notice-{}", self.as_str()))
    }
}

/// What a payment's status means for its buyer.
pub(super) fn status_text(status: PaymentStatus, t: Texts) -> &'static str {
    t.say(&format!("status-{}", status.as_str()))
}

/// The states that circuits have.
const CIRCUIT_STATES: [&str; 6] = ["CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "DISABLED", "METRICS_ONLY"];

/// What a circuit's state means for orders.
pub(super) fn circuit_text(state: &str, t: Texts) -> &'static str {
    if CIRCUIT_STATES.contains(&state) {
        t.say(&format!("circuit-{state}"))
    } else {
        t.say("circuit-unknown")
    }
}

/// Who changed a payment.
pub(super) fn cause_text(cause: Cause, t: Texts) -> &'static str {
    t.say(&format!("cause-{}", cause.as_str()))
}

/// What a kind of discrepancy means, and what a person should do about it.
pub(super) fn kind_text(kind: DiscrepancyKind, t: Texts) -> (&'static str, &'static str) {
    let kind = kind.as_str();
    (t.say(&format!("kind-{kind}")), t.say(&format!("to-do-{kind}")))
}

/// The keys that are put together here.
#[cfg(test)]
pub(crate) fn spoken_keys() -> Vec<String> {
    let mut keys = Vec::new();
    keys.extend(Notice::ALL.map(|notice| format!("notice-{}", notice.as_str())));
    keys.extend(PaymentStatus::ALL.map(|status| format!("status-{}", status.as_str())));
    keys.extend(CIRCUIT_STATES.map(|state| format!("circuit-{state}")));
    keys.extend(Cause::ALL.map(|cause| format!("cause-{}", cause.as_str())));
    keys.extend(DiscrepancyKind::ALL.map(|kind| format!("kind-{}", kind.as_str())));
    keys.extend(DiscrepancyKind::ALL.map(|kind| format!("to-do-{}", kind.as_str())));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read_back() {
        for notice in Notice::ALL {
            assert_eq!(Notice::parse(notice.as_str()), Some(notice));
        }
        assert_eq!(Notice::parse("<script>"), None);
    }
}
