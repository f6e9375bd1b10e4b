//! What is wrong, whom it touches, and what to press: the overview's first lines, worst first.

use super::format::length;
use super::history::Orders;
use crate::ops::CircuitBody;
use crate::texts::Texts;
use application::Policy;
use domain::ports::{PaymentStatistics, UpcomingCheck, Worklist};
use std::time::Duration;

/// A look that is so late says that nobody looks: two turns of the reconciler at its default schedule.
const OVERDUE: Duration = Duration::from_secs(120);
/// From this share of troubled orders on, among at least [`ENOUGH_ORDERS`], buyers are turned away in numbers.
const TROUBLED_PERCENT: u64 = 10;
/// Fewer orders than this say nothing.
const ENOUGH_ORDERS: u64 = 10;

/// How bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Buyers are touched now.
    Critical,
    /// Somebody must do something, but not this minute.
    Warning,
}

/// One thing that needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) severity: Severity,
    /// What is wrong.
    pub(super) title: String,
    /// Whom it touches.
    pub(super) touches: String,
    /// What to press: the words and the page.
    pub(super) press: Option<(&'static str, String)>,
}

impl Alarm {
    pub(super) fn class(&self) -> &'static str {
        match self.severity {
            Severity::Critical => "bad",
            Severity::Warning => "warn",
        }
    }
}

/// What is known at one moment.
pub(super) struct Facts<'a> {
    /// None when the database can't be read.
    pub(super) database: Option<(&'a PaymentStatistics, &'a Worklist)>,
    pub(super) circuits: &'a [CircuitBody],
    /// Of the last five minutes.
    pub(super) orders: Orders,
    pub(super) policy: &'a Policy,
    pub(super) t: Texts,
}

impl Alarm {
    fn new(
        severity: Severity,
        title: impl Into<String>,
        touches: impl Into<String>,
        press: Option<(&'static str, &str)>,
    ) -> Self {
        let press = press.map(|(words, link)| (words, link.to_owned()));
        Self { severity, title: title.into(), touches: touches.into(), press }
    }
}

/// Whether nobody has looked at a payment although its time came long ago.
pub(super) fn is_overdue(check: &UpcomingCheck, worklist: &Worklist) -> bool {
    let late = check.due_at.is_some_and(|due| worklist.now - due > OVERDUE);
    late && !check.parked && check.leased_until.is_none()
}

/// All that is wrong, worst first; empty when all is well.
pub(super) fn alarms(facts: &Facts<'_>) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    match facts.database {
        None => alarms.push(database_away(facts)),
        Some((statistics, worklist)) => {
            alarms.extend(stuck(facts, statistics));
            alarms.extend(overdue(facts, worklist));
            alarms.extend(parked(facts, worklist));
            alarms.extend(discrepancies(facts, statistics));
        }
    }
    alarms.extend(facts.circuits.iter().filter_map(|circuit| circuit_alarm(facts, circuit)));
    alarms.extend(troubled(facts));
    alarms.sort_by_key(|alarm| alarm.severity);
    alarms
}

fn database_away(facts: &Facts<'_>) -> Alarm {
    let t = facts.t;
    Alarm::new(Severity::Critical, t.say("alarm-database"), t.say("alarm-database-touches"), None)
}

fn stuck(facts: &Facts<'_>, statistics: &PaymentStatistics) -> Option<Alarm> {
    let (t, oldest) = (facts.t, statistics.oldest_unsettled?);
    if oldest <= facts.policy.rules.force_fail_after + OVERDUE {
        return None;
    }
    Some(Alarm::new(
        Severity::Critical,
        t.fill("alarm-stuck", [("age", length(oldest, t).into())]),
        t.say("alarm-stuck-touches"),
        Some((t.say("alarm-stuck-press"), "/payments?status=UNSETTLED&older=5m")),
    ))
}

fn overdue(facts: &Facts<'_>, worklist: &Worklist) -> Option<Alarm> {
    let t = facts.t;
    let late = worklist.checks.iter().filter(|check| is_overdue(check, worklist)).count();
    (late > 0).then(|| {
        Alarm::new(
            Severity::Critical,
            t.fill("alarm-overdue", [("count", late.into())]),
            t.say("alarm-overdue-touches"),
            Some((t.say("show-reconciler"), "/reconciler")),
        )
    })
}

fn parked(facts: &Facts<'_>, worklist: &Worklist) -> Option<Alarm> {
    let t = facts.t;
    let parked: Vec<_> = worklist.checks.iter().filter(|check| check.parked).collect();
    let first = parked.first()?;
    Some(Alarm::new(
        Severity::Warning,
        t.fill("alarm-parked", [("count", parked.len().into())]),
        t.say("alarm-parked-touches"),
        Some((t.say("alarm-parked-press"), &format!("/payments/{}", first.payment_id))),
    ))
}

fn discrepancies(facts: &Facts<'_>, statistics: &PaymentStatistics) -> Option<Alarm> {
    let t = facts.t;
    let open: u64 = statistics.open_discrepancies.iter().map(|(_, count)| count).sum();
    let charges = statistics.open_discrepancies.iter().filter(|(kind, _)| kind.is_charge());
    let charges: u64 = charges.map(|(_, count)| count).sum();
    (open > 0).then(|| {
        Alarm::new(
            Severity::Warning,
            t.fill("alarm-discrepancies", [("count", open.into())]),
            t.fill("alarm-discrepancies-touches", [("count", charges.into())]),
            Some((t.say("alarm-discrepancies-press"), "/discrepancies")),
        )
    })
}

fn circuit_alarm(facts: &Facts<'_>, circuit: &CircuitBody) -> Option<Alarm> {
    let t = facts.t;
    let pays = circuit.name == "pg-payment";
    let (name, state) = (circuit.name.as_str(), circuit.state.as_str());
    let named = [("name", name.into()), ("state", state.into())];
    let (severity, title, touches) = match (state, pays) {
        ("OPEN" | "FORCED_OPEN", true) => {
            (Severity::Critical, t.fill("alarm-cut-off", named), t.say("alarm-cut-off-payments"))
        }
        ("OPEN" | "FORCED_OPEN", false) => {
            (Severity::Critical, t.fill("alarm-cut-off", named), t.say("alarm-cut-off-look-ups"))
        }
        ("HALF_OPEN", true) => {
            (Severity::Warning, t.fill("alarm-probing", named), t.say("alarm-probing-payments"))
        }
        ("HALF_OPEN", false) => {
            (Severity::Warning, t.fill("alarm-probing", named), t.say("alarm-cut-off-look-ups"))
        }
        ("DISABLED" | "METRICS_ONLY", _) => {
            (Severity::Warning, t.fill("alarm-unprotected", named), t.say("alarm-unprotected-touches"))
        }
        _ => return None,
    };
    Some(Alarm::new(severity, title, touches, Some((t.say("show-circuits"), "/circuits"))))
}

fn troubled(facts: &Facts<'_>) -> Option<Alarm> {
    let t = facts.t;
    let Orders { troubled, .. } = facts.orders;
    let total = facts.orders.total();
    (total >= ENOUGH_ORDERS && troubled * 100 >= total * TROUBLED_PERCENT).then(|| {
        Alarm::new(
            Severity::Critical,
            t.fill("alarm-troubled", [("total", total.into()), ("troubled", troubled.into())]),
            t.say("alarm-troubled-touches"),
            Some((t.say("show-circuits"), "/circuits")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootstrap::settings::Locale;
    use domain::settlement::DiscrepancyKind;
    use domain::{MerchantId, Money, OrderId, PaymentId, PaymentStatus};
    use time::macros::datetime;

    fn circuit(name: &str, state: &str) -> CircuitBody {
        CircuitBody {
            name: name.to_owned(),
            state: state.to_owned(),
            failure_rate: -1.0,
            slow_call_rate: -1.0,
            buffered_calls: 0,
            not_permitted_calls: 0,
            retry_after: None,
        }
    }

    fn worklist() -> Worklist {
        Worklist { now: datetime!(2026-01-01 00:00 UTC), unsettled_by_age: [0; 4], checks: Vec::new() }
    }

    fn check(due_ago: u64, parked: bool) -> UpcomingCheck {
        let now = worklist().now;
        UpcomingCheck {
            payment_id: PaymentId::new(7).unwrap(),
            order_id: OrderId::new(100_001).unwrap(),
            status: PaymentStatus::InProgress,
            paid_amount: Money::new(1000).unwrap(),
            created_at: now,
            due_at: (!parked).then(|| now - Duration::from_secs(due_ago)),
            leased_until: None,
            failures: 0,
            parked,
        }
    }

    /// The titles, with what is known as given.
    fn titles(
        database: Option<(&PaymentStatistics, &Worklist)>,
        circuits: &[CircuitBody],
        orders: Orders,
    ) -> Vec<String> {
        let policy = Policy::new(MerchantId::new("m").unwrap(), "http://localhost:8080");
        let facts = Facts { database, circuits, orders, policy: &policy, t: Texts::of(Locale::En) };
        let found = alarms(&facts);
        assert!(found.is_sorted_by_key(|alarm| alarm.severity));
        found.into_iter().map(|alarm| alarm.title).collect()
    }

    #[test]
    fn a_calm_system_has_none() {
        let statistics = PaymentStatistics {
            unsettled: 3,
            oldest_unsettled: Some(Duration::from_secs(300)),
            ..PaymentStatistics::default()
        };
        let list = Worklist { checks: vec![check(100, false)], ..worklist() };
        let circuits = [circuit("pg-payment", "CLOSED"), circuit("pg-query", "CLOSED")];
        let orders = Orders { accepted: 91, refused: 50, troubled: 9 };
        assert!(titles(Some((&statistics, &list)), &circuits, orders).is_empty());
        let few = Orders { accepted: 0, refused: 0, troubled: 9 };
        assert!(titles(Some((&statistics, &list)), &circuits, few).is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_said() {
        let statistics = PaymentStatistics {
            unsettled: 1,
            oldest_unsettled: Some(Duration::from_secs(600)),
            open_discrepancies: vec![(DiscrepancyKind::LateSuccess, 2), (DiscrepancyKind::Poison, 1)],
            watched: 0,
        };
        let list = Worklist { checks: vec![check(0, true), check(121, false)], ..worklist() };
        let circuits = [circuit("pg-payment", "OPEN"), circuit("pg-query", "DISABLED")];
        let orders = Orders { accepted: 9, refused: 0, troubled: 1 };
        let said = titles(Some((&statistics, &list)), &circuits, orders).join("\n");
        for part in [
            "has not been settled for 10m",
            "1 payment is over 2 min late",
            "1 payment is parked",
            "3 open discrepancies",
            "pg-payment is OPEN",
            "pg-query is DISABLED",
            "1 of 10 orders",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        assert_eq!(titles(None, &[], Orders::default()), ["The database is out of reach"]);
    }
}
