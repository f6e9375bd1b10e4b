//! What is wrong, whom it touches, and what to press: the overview's first lines, worst first.

use super::format::{grouped, length};
use super::history::Orders;
use crate::ops::CircuitBody;
use application::Policy;
use bootstrap::settings::Locale;
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
    pub(super) locale: Locale,
}

impl Facts<'_> {
    const fn say<'t>(&self, ko: &'t str, en: &'t str) -> &'t str {
        match self.locale {
            Locale::Ko => ko,
            Locale::En => en,
        }
    }

    fn alarm(
        &self,
        severity: Severity,
        title: (String, String),
        touches: (&str, &str),
        press: Option<(&'static str, &'static str, &str)>,
    ) -> Alarm {
        Alarm {
            severity,
            title: match self.locale {
                Locale::Ko => title.0,
                Locale::En => title.1,
            },
            touches: self.say(touches.0, touches.1).to_owned(),
            press: press.map(|(ko, en, link)| {
                let words = match self.locale {
                    Locale::Ko => ko,
                    Locale::En => en,
                };
                (words, link.to_owned())
            }),
        }
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
    facts.alarm(
        Severity::Critical,
        ("데이터베이스에 연결할 수 없습니다".to_owned(), "The database is out of reach".to_owned()),
        (
            "모든 구매자: 주문이 503으로 거절되고, 아무것도 청구되지 않습니다. PostgreSQL과 연결 수를 확인하세요.",
            "All buyers: orders are refused with 503, nobody is charged. Check PostgreSQL and its connections.",
        ),
        None,
    )
}

fn stuck(facts: &Facts<'_>, statistics: &PaymentStatistics) -> Option<Alarm> {
    let oldest = statistics.oldest_unsettled?;
    if oldest <= facts.policy.force_fail_after + OVERDUE {
        return None;
    }
    let age = length(oldest, facts.locale);
    Some(facts.alarm(
        Severity::Critical,
        (
            format!("{age}째 확정되지 않은 결제가 있습니다"),
            format!("A payment has not been settled for {age}"),
        ),
        (
            "구매자가 결과를 기다립니다. 리컨실러나 PG 조회가 막혀 있을 수 있습니다.",
            "Its buyer is waiting. The reconciler or the look-ups may be blocked.",
        ),
        Some(("오래된 결제 보기", "Show old payments", "/payments?status=UNSETTLED&older=5m")),
    ))
}

fn overdue(facts: &Facts<'_>, worklist: &Worklist) -> Option<Alarm> {
    let late = worklist.checks.iter().filter(|check| is_overdue(check, worklist)).count();
    (late > 0).then(|| {
        facts.alarm(
            Severity::Critical,
            (
                format!("확인이 2분 넘게 밀린 결제 {late}건: 리컨실러가 돌지 않는 것 같습니다"),
                format!("{late} payments are over 2 min late for a look: the reconciler seems not to run"),
            ),
            (
                "결과를 기다리는 구매자가 계속 늘어납니다. 리컨실러 프로세스를 확인하세요.",
                "More and more buyers wait for their outcome. Check the reconciler's process.",
            ),
            Some(("리컨실러 보기", "Show the reconciler", "/reconciler")),
        )
    })
}

fn parked(facts: &Facts<'_>, worklist: &Worklist) -> Option<Alarm> {
    let parked: Vec<_> = worklist.checks.iter().filter(|check| check.parked).collect();
    let first = parked.first()?;
    let count = parked.len();
    Some(facts.alarm(
        Severity::Warning,
        (format!("보류된 결제 {count}건"), format!("{count} payments are parked")),
        (
            "확인이 거듭 실패하여 직접 확인을 누르기 전까지 아무도 보지 않습니다.",
            "Examining them failed again and again; nobody looks at them until a sync by hand.",
        ),
        Some(("결제 보기", "Show the payment", &format!("/payments/{}", first.payment_id))),
    ))
}

fn discrepancies(facts: &Facts<'_>, statistics: &PaymentStatistics) -> Option<Alarm> {
    let open: u64 = statistics.open_discrepancies.iter().map(|(_, count)| count).sum();
    let charges = statistics.open_discrepancies.iter().filter(|(kind, _)| kind.is_charge());
    let charges: u64 = charges.map(|(_, count)| count).sum();
    if open == 0 {
        return None;
    }
    let touches = (
        format!("그중 {}건은 구매자의 카드가 주문과 다르게 청구된 것입니다.", grouped(charges)),
        format!("In {} of them a card was charged other than by its order.", grouped(charges)),
    );
    Some(facts.alarm(
        Severity::Warning,
        (format!("미처리 불일치 {}건", grouped(open)), format!("{} open discrepancies", grouped(open))),
        (&touches.0, &touches.1),
        Some(("처리하기", "Settle them", "/discrepancies")),
    ))
}

fn circuit_alarm(facts: &Facts<'_>, circuit: &CircuitBody) -> Option<Alarm> {
    let pays = circuit.name == "pg-payment";
    let name = &circuit.name;
    let press = Some(("서킷 보기", "Show the circuits", "/circuits"));
    let cut_off = if pays {
        (
            "카드로 주문하는 모든 구매자: 주문이 바로 거절되고 취소됩니다. 아무도 청구되지 않습니다.",
            "Everyone who pays by card: orders are refused at once and cancelled. Nobody is charged.",
        )
    } else {
        (
            "결과를 기다리는 구매자: PG에 물을 수 없어 결제가 확정되지 않습니다.",
            "Buyers who wait for their outcome: the gateway can't be asked, so nothing is settled.",
        )
    };
    let state = circuit.state.as_str();
    match state {
        "OPEN" | "FORCED_OPEN" => Some(facts.alarm(
            Severity::Critical,
            (
                format!("서킷 {name} {state}: PG를 부르지 않습니다"),
                format!("Circuit {name} is {state}: the gateway is not called"),
            ),
            cut_off,
            press,
        )),
        "HALF_OPEN" => Some(facts.alarm(
            Severity::Warning,
            (
                format!("서킷 {name} HALF_OPEN: PG가 돌아왔는지 시험 중입니다"),
                format!("Circuit {name} is HALF_OPEN: probing the gateway"),
            ),
            if pays {
                (
                    "카드로 주문하는 구매자 대부분: 시험 호출이 성공할 때까지 바로 거절됩니다.",
                    "Most who pay by card: refused at once until the probes succeed.",
                )
            } else {
                cut_off
            },
            press,
        )),
        "DISABLED" | "METRICS_ONLY" => Some(facts.alarm(
            Severity::Warning,
            (
                format!("서킷 {name} {state}: 보호가 꺼져 있습니다"),
                format!("Circuit {name} is {state}: its protection is off"),
            ),
            (
                "PG가 느려지면 모든 구매자의 주문이 함께 느려집니다.",
                "When the gateway gets slow, every buyer's order gets slow with it.",
            ),
            press,
        )),
        _ => None,
    }
}

fn troubled(facts: &Facts<'_>) -> Option<Alarm> {
    let Orders { troubled, .. } = facts.orders;
    let total = facts.orders.total();
    (total >= ENOUGH_ORDERS && troubled * 100 >= total * TROUBLED_PERCENT).then(|| {
        facts.alarm(
            Severity::Critical,
            (
                format!(
                    "최근 5분 동안 주문 {}건 중 {}건이 장애로 거절되었습니다",
                    grouped(total),
                    grouped(troubled)
                ),
                format!(
                    "{} of {} orders of the last 5 min were refused for trouble of ours or the gateway's",
                    grouped(troubled),
                    grouped(total)
                ),
            ),
            (
                "거절된 구매자는 청구되지 않았고, 다시 주문할 수 있습니다.",
                "Those buyers were not charged and can order again.",
            ),
            Some(("서킷 보기", "Show the circuits", "/circuits")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let facts = Facts { database, circuits, orders, policy: &policy, locale: Locale::En };
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
            "1 payments are over 2 min late",
            "1 payments are parked",
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
